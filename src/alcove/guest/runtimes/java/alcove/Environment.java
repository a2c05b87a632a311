package alcove;

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.util.Map;

/** The process's environment, which Java reads once, when it starts, and a function's is known later. */
final class Environment {
    private static final Map<String, String> DEFAULTS = Map.of(
            "LANG", "C.UTF-8",
            "TZ", ":UTC",
            "PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin",
            "HOME", "/tmp",
            "LD_LIBRARY_PATH", "/var/task/lib:/opt/lib",
            "LAMBDA_RUNTIME_DIR", "/opt/alcove",
            "AWS_EXECUTION_ENV", "AWS_Lambda_java17",
            "AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand");

    private Environment() {}

    /** Leave what every function has, and these. */
    static void set(Map<String, String> values) throws ReflectiveOperationException {
        Field field = Class.forName("java.lang.ProcessEnvironment").getDeclaredField("theEnvironment");
        field.setAccessible(true);
        Class<?> view = Class.forName("java.lang.ProcessEnvironment$StringEnvironment");
        Constructor<?> constructor = view.getDeclaredConstructor(Map.class);
        constructor.setAccessible(true);
        @SuppressWarnings("unchecked")
        Map<String, String> environment = (Map<String, String>) constructor.newInstance(field.get(null));
        environment.clear();
        environment.putAll(DEFAULTS);
        environment.putAll(values);
    }
}
