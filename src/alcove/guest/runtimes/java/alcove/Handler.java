package alcove;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * A loaded handler: "package.Class::method", or "package.Class" for one that implements RequestHandler or
 * RequestStreamHandler. Its parameters are an event (whatever ``Binder`` makes of one, or an InputStream with an
 * OutputStream) and, where it wants one, a Context.
 */
final class Handler {
    private static final int MAX_RESULT = 6 * 1024 * 1024;
    private static final String CONTEXT = "com.amazonaws.services.lambda.runtime.Context";

    private final Object target;
    private final Method method;
    private final Type[] types;

    private Handler(Class<?> type, Object target, Method method) {
        this.target = target;
        this.method = method;
        types = method.getGenericParameterTypes();
        Generics generics = new Generics(type);
        Arrays.setAll(types, index -> generics.resolve(types[index]));
    }

    /** The package's own classes and jars, then those of layers; of ours the tenant sees nothing. */
    static URLClassLoader loader(String root) throws Exception {
        List<URL> found = new ArrayList<>(List.of(new File(root + "/").toURI().toURL()));
        for (String folder : new String[] {root + "/lib", "/opt/java/lib"}) {
            File[] jars = new File(folder).listFiles((directory, name) -> name.endsWith(".jar"));
            if (jars == null) continue;
            Arrays.sort(jars);
            for (File jar : jars) found.add(jar.toURI().toURL());
        }
        return new URLClassLoader(found.toArray(URL[]::new), ClassLoader.getPlatformClassLoader());
    }

    static Handler find(String name, ClassLoader loader) throws Throwable {
        String[] parts = name.split("::", -1);
        if (parts.length > 2 || parts[0].isEmpty()) {
            throw new Failure("Runtime.MalformedHandlerName", "Bad handler '" + name + "': package.Class::method is wanted");
        }
        Class<?> type;
        try {
            type = Class.forName(parts[0], true, loader);
        } catch (ClassNotFoundException error) {
            throw new Failure("Runtime.ImportModuleError", "Class not found: " + parts[0]);
        }
        String wanted = parts.length == 2 ? parts[1] : "handleRequest";
        Method method = choose(type, wanted);
        Object target = Modifier.isStatic(method.getModifiers()) ? null : instance(type);
        method.setAccessible(true);
        return new Handler(type, target, method);
    }

    private static Object instance(Class<?> type) throws ReflectiveOperationException, Failure {
        try {
            var constructor = type.getDeclaredConstructor();
            constructor.setAccessible(true);
            return constructor.newInstance();
        } catch (NoSuchMethodException error) {
            throw new Failure("Runtime.HandlerNotFound", "Class " + type.getName() + " has no constructor without parameters");
        }
    }

    /** Of several methods of that name the one with most parameters, as AWS chooses; bridges never. */
    private static Method choose(Class<?> type, String name) throws Failure {
        Method found = null;
        for (Method method : type.getMethods()) {
            if (!method.getName().equals(name) || method.isBridge() || !understood(method)) continue;
            if (found == null || method.getParameterCount() > found.getParameterCount()) found = method;
        }
        if (found != null) return found;
        throw new Failure("Runtime.HandlerNotFound", "Class " + type.getName() + " has no public method " + name
                + " whose parameters are understood: an event, streams, a Context");
    }

    private static boolean understood(Method method) {
        Class<?>[] types = method.getParameterTypes();
        int count = types.length - (types.length > 0 && isContext(types[types.length - 1]) ? 1 : 0);
        if (count == 2) return types[0] == InputStream.class && types[1] == OutputStream.class;
        return count <= 1;
    }

    private static boolean isContext(Class<?> type) {
        return type.getName().equals(CONTEXT);
    }

    /** Return the answer, nothing where it is being streamed. */
    byte[] call(Call call, Map<String, Object> load) throws Throwable {
        boolean streams = false;
        List<Object> arguments = new ArrayList<>();
        for (Type type : types) {
            if (type instanceof Class<?> plain && isContext(plain)) arguments.add(Context.of(plain, load, call.metadata));
            else if (type == InputStream.class) arguments.add(new ByteArrayInputStream(call.event));
            else if (type == OutputStream.class) streams = arguments.add(call.stream);
            else arguments.add(convert(call.event, type));
        }
        Object result = method.invoke(target, arguments.toArray());
        if (!streams) return limited(serialise(result));
        return call.stream.end() ? new byte[0] : limited(call.stream.whole());
    }

    private static Object convert(byte[] event, Type type) throws ReflectiveOperationException, Failure {
        String text = new String(event, StandardCharsets.UTF_8);
        try {
            Object value = event.length == 0 ? null : Json.parse(text);
            // Who takes a String of what is none gets the event as it came.
            if (type == String.class && value != null && !(value instanceof String)) return text;
            return Binder.bind(value, type);
        } catch (Json.Malformed | Binder.Mismatch error) {
            throw new Failure("Runtime.UnmarshalError", "Unable to unmarshal input: " + error.getMessage());
        }
    }

    private static byte[] serialise(Object result) throws Failure {
        try {
            return Json.write(result).getBytes(StandardCharsets.UTF_8);
        } catch (Json.Malformed error) {
            throw new Failure("Runtime.MarshalError", "Unable to marshal response: " + error.getMessage());
        }
    }

    private static byte[] limited(byte[] answer) throws Failure {
        if (answer.length <= MAX_RESULT) return answer;
        throw new Failure("Function.ResponseSizeTooLarge", "Response payload size (" + answer.length
                + " bytes) exceeded maximum allowed payload size (" + MAX_RESULT + " bytes).");
    }
}
