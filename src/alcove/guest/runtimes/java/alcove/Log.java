package alcove;

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** LambdaLogger: text as it is; or, with the log format JSON, an object of a level and above for each entry. */
final class Log {
    private static final List<String> LEVELS = List.of("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL");

    private Log() {}

    /** ``said`` are the arguments of LambdaLogger.log: a text or bytes and, in newer releases, a level. */
    static void write(Object[] said, Map<String, Object> load, Object requestId) {
        String text = said[0] instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8) : String.valueOf(said[0]);
        String level = said.length > 1 ? String.valueOf(said[1]) : "UNDEFINED";
        Map<?, ?> settings = load.get("logging") instanceof Map<?, ?> map ? map : Map.of();
        if (!"JSON".equals(settings.get("format"))) {
            System.out.print(text);
        } else if (!LEVELS.contains(level) || LEVELS.indexOf(level) >= LEVELS.indexOf(settings.get("level"))) {
            System.out.println(line(text, level, requestId));
        }
        System.out.flush();
    }

    private static String line(String text, String level, Object requestId) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("timestamp", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString());
        if (LEVELS.contains(level)) line.put("level", level);
        line.put("message", text);
        line.put("AWSRequestId", requestId);
        return Json.write(line);
    }
}
