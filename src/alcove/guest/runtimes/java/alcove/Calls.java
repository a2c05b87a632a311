package alcove;

import java.io.IOException;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * The requests that are under way. Those that share the runtime have a thread each and the same handler: what its
 * threads share is the function's own concern. There are as many threads as the host has requests inside at once.
 */
final class Calls {
    private final Set<Call> running = ConcurrentHashMap.newKeySet();
    private ExecutorService threads; // most functions never need any

    void serve(Call call, Handler handler, Map<String, Object> load) throws IOException {
        running.add(call);
        if (call.isShared()) share(call, handler, load);
        else run(call, handler, load);
    }

    private void run(Call call, Handler handler, Map<String, Object> load) throws IOException {
        try {
            call.run(handler, load);
        } finally {
            running.remove(call);
        }
    }

    private void share(Call call, Handler handler, Map<String, Object> load) throws IOException {
        ClassLoader loader = Thread.currentThread().getContextClassLoader();
        try {
            if (threads == null) threads = Executors.newCachedThreadPool(Calls::thread);
            threads.execute(() -> {
                Thread.currentThread().setContextClassLoader(loader);
                SharedOutput.begin(call.requestId());
                try {
                    run(call, handler, load);
                } catch (IOException error) {
                    // The host is away; whoever reads the channel finds out.
                }
            });
        } catch (OutOfMemoryError error) { // no thread more
            running.remove(call);
            call.fail(error);
        }
    }

    private static Thread thread(Runnable work) {
        Thread thread = new Thread(work, "request");
        thread.setDaemon(true);
        return thread;
    }

    /** The process ends: tell all that are under way; return whether there were any. */
    boolean exited() throws IOException {
        boolean any = false;
        for (Call call : running) {
            call.exited();
            any = true;
        }
        return any;
    }
}
