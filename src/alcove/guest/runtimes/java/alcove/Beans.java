package alcove;

import java.lang.reflect.AccessibleObject;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.RecordComponent;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** The properties of a class, by the names that JSON has for them: setters, getters, public fields, a record's parts. */
final class Beans {
    private static final ClassValue<Beans> KNOWN = new ClassValue<>() {
        @Override
        protected Beans computeValue(Class<?> type) {
            return new Beans(type);
        }
    };

    /** "Records" sets "records" and "detail-type" sets "detailType", as events of AWS's services want it. */
    private final Map<String, AccessibleObject> setters = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
    private final Map<String, AccessibleObject> getters = new TreeMap<>();

    static Beans of(Class<?> type) {
        return KNOWN.get(type);
    }

    private Beans(Class<?> type) {
        for (Field field : type.getFields()) {
            if (Modifier.isStatic(field.getModifiers())) continue;
            add(getters, field.getName(), field);
            if (!Modifier.isFinal(field.getModifiers())) add(setters, field.getName(), field);
        }
        for (Method method : type.getMethods()) {
            if (Modifier.isStatic(method.getModifiers()) || method.isBridge() || method.getDeclaringClass() == Object.class) continue;
            String name = method.getName();
            if (method.getParameterCount() == 1) add(setters, property(name, "set"), method);
            else if (method.getParameterCount() > 0 || method.getReturnType() == void.class) continue;
            else if (method.getReturnType() == boolean.class) add(getters, property(name, "is"), method);
            if (method.getParameterCount() == 0) add(getters, property(name, "get"), method);
        }
        for (Class<?> from = type; from != null && !from.getName().startsWith("java."); from = from.getSuperclass()) hidden(from);
        if (type.isRecord()) {
            getters.clear();
            for (RecordComponent part : type.getRecordComponents()) add(getters, part.getName(), part.getAccessor());
        }
    }

    /** What can be read and has no setter is set in its field, as AWS has it. */
    private void hidden(Class<?> type) {
        for (Field field : type.getDeclaredFields()) {
            boolean open = (field.getModifiers() & (Modifier.STATIC | Modifier.PUBLIC)) != 0;
            if (!open && getters.containsKey(field.getName())) add(setters, field.getName(), field);
        }
    }

    private static void add(Map<String, AccessibleObject> to, String name, AccessibleObject member) {
        // A class that is not public has public methods all the same.
        if (name != null && member.trySetAccessible()) to.putIfAbsent(name, member);
    }

    private static String property(String method, String prefix) {
        if (!method.startsWith(prefix) || method.length() == prefix.length()) return null;
        String name = method.substring(prefix.length());
        // As beans have it: getURL() is of "URL", getUrl() of "url".
        boolean acronym = name.length() > 1 && Character.isUpperCase(name.charAt(0)) && Character.isUpperCase(name.charAt(1));
        return acronym ? name : Character.toLowerCase(name.charAt(0)) + name.substring(1);
    }

    void set(Object bean, String name, Object value) throws ReflectiveOperationException, Binder.Mismatch {
        AccessibleObject setter = setters.getOrDefault(name, setters.get(name.replace("-", "")));
        if (setter instanceof Field field) {
            if (value != null || !field.getType().isPrimitive()) field.set(bean, Binder.part(name, value, field.getGenericType()));
        } else if (setter instanceof Method method) {
            boolean skipped = value == null && method.getParameterTypes()[0].isPrimitive();
            if (!skipped) method.invoke(bean, Binder.part(name, value, method.getGenericParameterTypes()[0]));
        }
    }

    /** What there is to write of an object; nothing: it is no bean. */
    Map<String, Object> get(Object bean) throws ReflectiveOperationException {
        Map<String, Object> found = new LinkedHashMap<>();
        for (var entry : getters.entrySet()) {
            AccessibleObject getter = entry.getValue();
            found.put(entry.getKey(), getter instanceof Field field ? field.get(bean) : ((Method) getter).invoke(bean));
        }
        return found;
    }
}
