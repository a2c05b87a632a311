package alcove;

import java.io.IOException;
import java.io.InputStream;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The Java runtime: loads a handler, calls it, answers, one request at a time unless requests are said to be shared. The
 * counterpart of python.py: the same frames, the same order of things.
 */
public final class Main {
    private static final byte[] NOTHING = {};
    private static final String TRACE = "com.amazonaws.xray.traceHeader";

    private final Channel channel;
    private final Calls calls = new Calls();
    private Map<String, Object> load = Map.of();
    private URLClassLoader loader;
    private Handler handler;
    private String handlerClass = "";
    private volatile Integer pending; // the id of the frame that is being answered, other than a request's

    private Main(Channel channel) {
        this.channel = channel;
    }

    public static void main(String[] arguments) throws Exception {
        String named = System.getenv("ALCOVE_CHANNEL_FD");
        System.setIn(InputStream.nullInputStream());
        Main runtime = new Main(new Channel(named == null ? 3 : Integer.parseInt(named)));
        Environment.set(Map.of());
        KernelRandom.install();
        Heap.watch();
        Runtime.getRuntime().addShutdownHook(new Thread(runtime::onExit));
        runtime.channel.send(Channel.READY, 0, "{\"runtime\": \"java17\", \"protocol\": 1}".getBytes(StandardCharsets.UTF_8));
        try {
            for (;;) runtime.serve(runtime.channel.receive());
        } catch (Channel.Closed closed) {
            Runtime.getRuntime().halt(0);
        }
    }

    private record Answer(int kind, byte[] payload) {}

    private void serve(Channel.Frame frame) throws IOException {
        if (frame.kind() == Channel.INVOKE) {
            invoke(new Call(channel, frame));
            return;
        }
        pending = frame.id();
        Answer answer;
        try {
            answer = switch (frame.kind()) {
                case Channel.LOAD -> onLoad(frame.payload());
                case Channel.HOOK -> onHook(frame.payload());
                case Channel.UNLOAD -> onUnload();
                case Channel.PING -> new Answer(Channel.PONG, frame.payload());
                default -> throw new IOException("frame kind " + frame.kind() + " has no place here");
            };
        } catch (Throwable thrown) {
            answer = new Answer(Channel.FAILURE, Failure.document(thrown));
        }
        System.out.flush();
        System.err.flush();
        answer(answer);
    }

    private synchronized void answer(Answer answer) throws IOException {
        Integer id = pending;
        pending = null;
        if (id != null) channel.send(answer.kind(), id, answer.payload());
    }

    /** System.exit() ends the process, but not before whoever waits has been told. */
    private void onExit() {
        try {
            if (!calls.exited()) answer(new Answer(Channel.FAILURE, Failure.document(Failure.exited(""))));
        } catch (IOException error) {
            // The host is away, and so are we.
        }
    }

    // Loading

    private Answer onLoad(byte[] payload) throws Throwable {
        long began = System.nanoTime();
        load = Json.object(payload);
        Randomness.reseed();
        Environment.set(variables());
        Heap.limit(((Number) load.get("memory_mib")).intValue());
        if (load.containsKey("concurrency")) SharedOutput.install();
        boolean rehearsal = Boolean.TRUE.equals(load.get("rehearsal"));
        String root = rehearsal ? System.getProperty("java.class.path") : (String) load.get("task_root");
        handlerClass = rehearsal ? "alcove.Rehearsal::handler" : (String) load.get("handler");
        loader = Handler.loader(root);
        Thread.currentThread().setContextClassLoader(loader);
        handler = Handler.find(handlerClass, loader);
        String spent = String.format("{\"init_ms\": %.3f}", (System.nanoTime() - began) / 1e6);
        return new Answer(Channel.LOADED, spent.getBytes(StandardCharsets.UTF_8));
    }

    private Map<String, String> variables() {
        Map<String, String> found = new LinkedHashMap<>();
        found.put("_HANDLER", (String) load.get("handler"));
        found.put("LAMBDA_TASK_ROOT", (String) load.get("task_root"));
        found.put("AWS_LAMBDA_FUNCTION_NAME", (String) load.get("function_name"));
        found.put("AWS_LAMBDA_FUNCTION_VERSION", (String) load.get("version"));
        found.put("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", String.valueOf(load.get("memory_mib")));
        found.put("AWS_LAMBDA_LOG_GROUP_NAME", (String) load.get("log_group"));
        found.put("AWS_LAMBDA_LOG_STREAM_NAME", (String) load.get("log_stream"));
        if (load.get("logging") instanceof Map<?, ?> logging) {
            found.put("AWS_LAMBDA_LOG_FORMAT", String.valueOf(logging.get("format")));
            if (logging.get("level") instanceof String level && !level.isEmpty()) found.put("AWS_LAMBDA_LOG_LEVEL", level);
        }
        ((Map<?, ?>) load.get("environment")).forEach((name, value) -> found.put((String) name, (String) value));
        return found;
    }

    private Answer onUnload() throws Exception {
        if (loader != null) loader.close();
        Thread.currentThread().setContextClassLoader(ClassLoader.getSystemClassLoader());
        loader = null;
        handler = null;
        load = Map.of();
        handlerClass = "";
        Environment.set(Map.of());
        return new Answer(Channel.DONE, NOTHING);
    }

    /** The handler's class may have static methods beforeSnapshot() and afterRestore(). */
    private Answer onHook(byte[] payload) throws Throwable {
        boolean before = "before_snapshot".equals(Json.object(payload).get("hook"));
        if (!before) Randomness.reseed();
        if (loader != null) {
            Class<?> type = Class.forName(handlerClass.split("::")[0], true, loader);
            try {
                var hook = type.getDeclaredMethod(before ? "beforeSnapshot" : "afterRestore");
                hook.setAccessible(true);
                hook.invoke(null);
            } catch (NoSuchMethodException none) {
                // It need not have any.
            }
        }
        return new Answer(Channel.DONE, NOTHING);
    }

    // Calls

    private void invoke(Call call) throws IOException {
        // The process has one trace: that of a request which shares it is in its context alone.
        if (call.traceId() != null && !call.isShared()) System.setProperty(TRACE, call.traceId());
        else System.clearProperty(TRACE);
        calls.serve(call, handler, load);
    }
}
