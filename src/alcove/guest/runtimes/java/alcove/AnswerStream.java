package alcove;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * A handler's OutputStream. What it writes goes to the host as it is written; single bytes wait for a flush(), for
 * more, or for the end. An answer that is one JSON object, as AWS's handlers write it, is kept until it is over and is
 * then an ordinary answer. Eight NULs after such an object say that it is the head of an HTTP answer: that streams, as
 * AWS's runtime for Node.js has it. Writing waits for the host where that has no room.
 */
final class AnswerStream extends OutputStream {
    private static final String BYTES = "application/octet-stream";
    private static final String HTTP = "application/vnd.awslambda.http-integration-response";
    private static final int MAX_CHUNK = 64 * 1024;
    private static final int MAX_HELD = 6 * 1024 * 1024;

    private final Channel channel;
    private final int id;
    /** The tenant may lock the stream itself. */
    private final Object lock = new Object();
    private final ByteArrayOutputStream held = new ByteArrayOutputStream();
    private final Document document = new Document();
    private boolean begun;
    private boolean over;

    AnswerStream(Channel channel, int id) {
        this.channel = channel;
        this.id = id;
    }

    @Override
    public void write(int value) throws IOException {
        synchronized (lock) {
            take(new byte[] {(byte) value}, 0, 1);
            if (flows() && held.size() >= MAX_CHUNK) send();
        }
    }

    @Override
    public void write(byte[] data, int start, int count) throws IOException {
        synchronized (lock) {
            take(data, start, count);
            if (flows()) send();
        }
    }

    @Override
    public void flush() throws IOException {
        synchronized (lock) {
            if (over) return;
            // Who flushes within an object wants it seen; who flushes after one may be about to write its NULs.
            if (document.state() == Document.State.OPEN) document.giveUp();
            if (flows() && held.size() > 0) send();
        }
    }

    @Override
    public void close() throws IOException {
        flush();
    }

    private void take(byte[] data, int start, int count) throws IOException {
        if (over) throw new IOException("the answer is over");
        held.write(data, start, count);
        document.look(data, start, start + count);
        if (held.size() > MAX_HELD) document.giveUp();
    }

    private boolean flows() {
        return document.state() == Document.State.HEAD || document.state() == Document.State.OTHER;
    }

    private void send() throws IOException {
        if (!begun) {
            begun = true;
            String type = document.state() == Document.State.HEAD ? HTTP : BYTES;
            channel.send(Channel.STREAM, id, type.getBytes(StandardCharsets.US_ASCII));
        }
        byte[] data = held.toByteArray();
        held.reset();
        for (int at = 0; at < data.length; at += MAX_CHUNK) {
            channel.send(Channel.CHUNK, id, Arrays.copyOfRange(data, at, Math.min(at + MAX_CHUNK, data.length)));
        }
    }

    /** Nothing more comes. Return whether the answer streams; what is left of it is sent then. */
    boolean end() throws IOException {
        synchronized (lock) {
            over = true;
            if (begun && held.size() > 0) send();
            return begun;
        }
    }

    /** The answer of one that does not stream. */
    byte[] whole() {
        return held.toByteArray();
    }
}
