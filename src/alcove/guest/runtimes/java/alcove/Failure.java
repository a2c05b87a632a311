package alcove;

import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A failure of the runtime's own, with AWS's errorType; and the documents of all failures. */
final class Failure extends Exception {
    private static final int MAX_MESSAGE = 65536;
    private static final int MAX_FRAMES = 64;
    private static final int MAX_CAUSES = 8;

    final String kind;

    Failure(String kind, String message) {
        super(message);
        this.kind = kind;
    }

    static Failure exited(String request) {
        return new Failure("Runtime.ExitError", request + "Error: Runtime exited without providing a reason");
    }

    /** What AWS's runtime says of an exception: errorMessage, errorType (its class), stackTrace, cause. */
    static byte[] document(Throwable thrown) {
        while ((thrown instanceof InvocationTargetException || thrown instanceof ExceptionInInitializerError)
                && thrown.getCause() != null) {
            thrown = thrown.getCause();
        }
        return Json.write(describe(thrown, 0)).getBytes(StandardCharsets.UTF_8);
    }

    private static Map<String, Object> describe(Throwable thrown, int depth) {
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("errorMessage", message(thrown));
        document.put("errorType", thrown instanceof Failure failure ? failure.kind : thrown.getClass().getName());
        document.put("stackTrace", thrown instanceof Failure ? List.of() : frames(thrown));
        Throwable cause = thrown.getCause();
        if (cause != null && depth < MAX_CAUSES) document.put("cause", describe(cause, depth + 1));
        return document;
    }

    /** What the tenant's exception says, which is the tenant's code again. */
    private static String message(Throwable thrown) {
        try {
            String text = thrown.getMessage();
            return text == null ? "" : text.substring(0, Math.min(text.length(), MAX_MESSAGE));
        } catch (Throwable error) {
            return "<" + thrown.getClass().getName() + " has no text>";
        }
    }

    /** The tenant's own frames, innermost first. */
    private static List<String> frames(Throwable thrown) {
        List<String> found = new ArrayList<>();
        for (StackTraceElement frame : thrown.getStackTrace()) {
            if (frame.getClassName().startsWith("alcove.") || found.size() == MAX_FRAMES) break;
            found.add(frame.toString());
        }
        while (!found.isEmpty() && found.get(found.size() - 1).matches("java\\.base/(jdk\\.internal|java\\.lang)\\.reflect\\..*")) {
            found.remove(found.size() - 1);
        }
        return found;
    }
}
