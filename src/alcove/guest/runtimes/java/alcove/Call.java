package alcove;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;

/** One request: what it asks for, and its answer, which is told once. */
final class Call {
    private static final byte[] NOTHING = {};

    final int id;
    final Map<String, Object> metadata;
    final byte[] event;
    final AnswerStream stream;
    private final Channel channel;
    private boolean told;

    Call(Channel channel, Channel.Frame frame) {
        byte[] payload = frame.payload();
        int split = 2 + ((payload[0] & 0xff) << 8 | payload[1] & 0xff);
        this.channel = channel;
        id = frame.id();
        metadata = Json.object(Arrays.copyOfRange(payload, 2, split));
        event = Arrays.copyOfRange(payload, split, payload.length);
        stream = new AnswerStream(channel, id);
    }

    String requestId() {
        return (String) metadata.get("request_id");
    }

    boolean isShared() {
        return Boolean.TRUE.equals(metadata.get("shared"));
    }

    String traceId() {
        return metadata.get("trace_id") instanceof String trace && !trace.isEmpty() ? trace : null;
    }

    /** Call the handler, null: there is none; answer with what it returns or throws. */
    void run(Handler handler, Map<String, Object> load) throws IOException {
        byte[] failure = null, result = NOTHING;
        try {
            if (handler == null) throw new Failure("Runtime.NotLoaded", "no handler is loaded");
            result = handler.call(this, load);
        } catch (Throwable thrown) {
            failure = Failure.document(thrown);
        }
        System.out.flush();
        System.err.flush();
        answer(result, failure);
    }

    /** System.exit() ends the process, but not before the caller has been told. */
    void exited() throws IOException {
        fail(Failure.exited("RequestId: " + requestId() + " "));
    }

    void fail(Throwable thrown) throws IOException {
        answer(NOTHING, Failure.document(thrown));
    }

    private synchronized void answer(byte[] result, byte[] failure) throws IOException {
        if (told) return;
        told = true;
        if (stream.end()) channel.send(Channel.END, id, failure == null ? NOTHING : failure);
        else if (failure == null) channel.send(Channel.RESULT, id, result);
        else channel.send(Channel.FAILURE, id, failure);
        Marker.end(requestId());
    }
}
