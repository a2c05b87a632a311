package alcove;

import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;

/** The runtime's end of the invocation channel (wire/frame.py): frames on one descriptor. */
final class Channel {
    static final int READY = 16, LOAD = 17, LOADED = 18, INVOKE = 19, RESULT = 20, FAILURE = 21;
    static final int HOOK = 22, DONE = 23, UNLOAD = 24, PING = 25, PONG = 26, STREAM = 27, CHUNK = 28, END = 29;
    private static final int HEADER = 9;
    private static final int MAX_PAYLOAD = 6 * 1024 * 1024 + 64 * 1024;
    /** How soon a port is looked at again when the host's daemon is away. */
    private static final long AWAY_MS = 20;

    record Frame(int kind, int id, byte[] payload) {}

    /** The host closed the socket: the sandbox is over. */
    static final class Closed extends EOFException {}

    private final FileInputStream input;
    private final FileOutputStream output;
    private final boolean isPort;

    Channel(int number) throws ReflectiveOperationException, IOException {
        FileDescriptor descriptor = new FileDescriptor();
        // Opening a port a second time is refused, and Java has no other way to a descriptor that it was given.
        Field field = FileDescriptor.class.getDeclaredField("fd");
        field.setAccessible(true);
        field.setInt(descriptor, number);
        input = new FileInputStream(descriptor);
        output = new FileOutputStream(descriptor);
        isPort = Files.readSymbolicLink(Path.of("/proc/self/fd/" + number)).startsWith("/dev");
    }

    /** Several threads may send; a frame is whole. */
    void send(int kind, int id, byte[] payload) throws IOException {
        ByteBuffer frame = ByteBuffer.allocate(HEADER + payload.length);
        frame.putInt(payload.length).put((byte) kind).putInt(id).put(payload);
        synchronized (output) {
            output.write(frame.array());
        }
    }

    Frame receive() throws IOException, InterruptedException {
        for (;;) {
            byte[] header = read(HEADER);
            if (header == null) continue; // the next host begins with a frame of its own
            ByteBuffer fields = ByteBuffer.wrap(header);
            int length = fields.getInt(), kind = fields.get(), id = fields.getInt();
            if (length < 0 || length > MAX_PAYLOAD) throw new IOException("a frame of " + length + " bytes");
            byte[] payload = read(length);
            if (payload != null) return new Frame(kind, id, payload);
        }
    }

    /** Return so many bytes; null where the host went away in the middle of them. */
    private byte[] read(int count) throws IOException, InterruptedException {
        byte[] data = new byte[count];
        for (int filled = 0; filled < count; ) {
            int got = input.read(data, filled, count - filled);
            if (got > 0) {
                filled += got;
                continue;
            }
            if (!isPort) throw new Closed();
            Thread.sleep(AWAY_MS);
            if (filled > 0) return null;
        }
        return data;
    }
}
