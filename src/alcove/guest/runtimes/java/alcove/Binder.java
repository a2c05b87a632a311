package alcove;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import sun.reflect.ReflectionFactory;

/**
 * Makes what a handler takes from what an event says: records, beans (a constructor without parameters, setters or
 * public fields), collections and arrays of them, enums, numbers. What an event has more is ignored, what it lacks is
 * null or zero, as AWS has it.
 */
final class Binder {
    static final class Mismatch extends Exception {
        private static final long serialVersionUID = 1;

        Mismatch(String message) {
            super(message);
        }

        Mismatch(Object value, Type type) {
            this(type.getTypeName() + " is not made of " + named(value));
        }

        private static String named(Object value) {
            if (value == null) return "null";
            return value instanceof Map ? "an object" : value instanceof List ? "a list" : value.toString();
        }
    }

    private static final String EVENTS = "com.amazonaws.services.lambda.runtime.events.";

    private Binder() {}

    /** ``value`` is Json's. Throws what the tenant's constructors and setters throw, too. */
    static Object bind(Object value, Type type) throws ReflectiveOperationException, Mismatch {
        if (type instanceof Class<?> plain) return bind(value, plain, new Type[0]);
        if (type instanceof ParameterizedType generic) {
            return bind(value, (Class<?>) generic.getRawType(), generic.getActualTypeArguments());
        }
        if (type instanceof GenericArrayType array) return array(value, array.getGenericComponentType());
        if (type instanceof WildcardType any) return bind(value, any.getUpperBounds()[0]);
        return bind(value, ((TypeVariable<?>) type).getBounds()[0]);
    }

    private static Object bind(Object value, Class<?> type, Type[] inner) throws ReflectiveOperationException, Mismatch {
        if (value == null) {
            if (type.isPrimitive()) throw new Mismatch(null, type);
            return null;
        }
        if (type == Object.class) return value;
        if (type.isArray()) return array(value, type.getComponentType());
        if (Map.class.isAssignableFrom(type) && value instanceof Map<?, ?> map) return map(map, type, inner);
        if (Iterable.class.isAssignableFrom(type) && value instanceof List<?> list) return items(list, type, inner);
        if (value instanceof Number number && (type.isPrimitive() || Number.class.isAssignableFrom(type))) {
            return number(number, type);
        }
        if (type.isInstance(value) || type == boolean.class && value instanceof Boolean) return value;
        if (value instanceof String text) return text(text, type);
        // Java's own classes have setters that no event should call.
        if (value instanceof Map<?, ?> map && !type.getName().startsWith("java.")) return object(map, type);
        throw new Mismatch(value, type);
    }

    private static Object array(Object value, Type item) throws ReflectiveOperationException, Mismatch {
        if (!(value instanceof List<?> list)) throw new Mismatch(value, item);
        Object found = Array.newInstance(raw(item), list.size());
        for (int index = 0; index < list.size(); index++) Array.set(found, index, bind(list.get(index), item));
        return found;
    }

    private static Class<?> raw(Type type) {
        if (type instanceof Class<?> plain) return plain;
        return type instanceof ParameterizedType generic ? (Class<?>) generic.getRawType() : Object.class;
    }

    private static Object map(Map<?, ?> map, Class<?> type, Type[] inner) throws ReflectiveOperationException, Mismatch {
        if (type.isInstance(map) && inner.length != 2) return map;
        @SuppressWarnings("unchecked")
        var found = (Map<Object, Object>) (type.isInterface() ? new LinkedHashMap<>() : instance(type));
        if (!type.isInstance(found)) throw new Mismatch(map, type);
        for (var entry : map.entrySet()) {
            Object key = inner.length == 2 ? bind(entry.getKey(), inner[0]) : entry.getKey();
            found.put(key, inner.length == 2 ? bind(entry.getValue(), inner[1]) : entry.getValue());
        }
        return found;
    }

    private static Object items(List<?> list, Class<?> type, Type[] inner) throws ReflectiveOperationException, Mismatch {
        if (type.isInstance(list) && inner.length != 1) return list;
        boolean set = type.isInterface() && type.isAssignableFrom(LinkedHashSet.class) && Set.class.isAssignableFrom(type);
        @SuppressWarnings("unchecked")
        var found = (Collection<Object>) (set ? new LinkedHashSet<>() : type.isInterface() ? new ArrayList<>() : instance(type));
        if (!type.isInstance(found)) throw new Mismatch(list, type);
        for (Object item : list) found.add(inner.length == 1 ? bind(item, inner[0]) : item);
        return found;
    }

    private static Object number(Number value, Class<?> type) throws Mismatch {
        if (type.isInstance(value)) return value;
        if (type == double.class || type == Double.class) return value.doubleValue();
        if (type == float.class || type == Float.class) return value.floatValue();
        BigDecimal exact = new BigDecimal(value.toString());
        if (type == BigDecimal.class) return exact;
        try {
            if (type == int.class || type == Integer.class) return exact.intValueExact();
            if (type == long.class || type == Long.class) return exact.longValueExact();
            if (type == short.class || type == Short.class) return exact.shortValueExact();
            if (type == byte.class || type == Byte.class) return exact.byteValueExact();
            if (type == BigInteger.class) return exact.toBigIntegerExact();
        } catch (ArithmeticException error) {
            // It does not fit.
        }
        throw new Mismatch(value, type);
    }

    /** An enum's constant; a character; or of a class whose objects are written as text (UUID, java.time, URI). */
    private static Object text(String text, Class<?> type) throws ReflectiveOperationException, Mismatch {
        if ((type == char.class || type == Character.class) && text.length() == 1) return text.charAt(0);
        if (type.isEnum()) {
            for (Object constant : type.getEnumConstants()) if (((Enum<?>) constant).name().equals(text)) return constant;
            throw new Mismatch(text, type);
        }
        for (String name : new String[] {"parse", "fromString", "create"}) {
            for (Class<?> given : new Class<?>[] {String.class, CharSequence.class}) {
                try {
                    var maker = type.getMethod(name, given);
                    if (type.isAssignableFrom(maker.getReturnType())) return maker.invoke(null, text);
                } catch (NoSuchMethodException none) {
                    // The next may be there.
                }
            }
        }
        throw new Mismatch(text, type);
    }

    private static Object object(Map<?, ?> map, Class<?> type) throws ReflectiveOperationException, Mismatch {
        if (type.isRecord()) return record(map, type);
        Object found = instance(type);
        Beans properties = Beans.of(type);
        for (var entry : map.entrySet()) properties.set(found, (String) entry.getKey(), entry.getValue());
        return found;
    }

    private static Object record(Map<?, ?> map, Class<?> type) throws ReflectiveOperationException, Mismatch {
        List<Class<?>> types = new ArrayList<>();
        List<Object> values = new ArrayList<>();
        for (RecordComponent component : type.getRecordComponents()) {
            Object value = map.get(component.getName());
            types.add(component.getType());
            values.add(value == null ? zero(component.getType()) : part(component.getName(), value, component.getGenericType()));
        }
        Constructor<?> constructor = type.getDeclaredConstructor(types.toArray(Class<?>[]::new));
        constructor.setAccessible(true);
        return constructor.newInstance(values.toArray());
    }

    /** Make a property of an object's. */
    static Object part(String name, Object value, Type type) throws ReflectiveOperationException, Mismatch {
        try {
            return bind(value, type);
        } catch (Mismatch error) {
            throw new Mismatch(name + ": " + error.getMessage());
        }
    }

    private static Object zero(Class<?> type) {
        return type.isPrimitive() ? Array.get(Array.newInstance(type, 1), 0) : null;
    }

    private static Object instance(Class<?> type) throws ReflectiveOperationException, Mismatch {
        try {
            Constructor<?> constructor = type.getDeclaredConstructor();
            if (!type.getName().startsWith("java.")) constructor.setAccessible(true);
            return constructor.newInstance();
        } catch (NoSuchMethodException | InstantiationException | IllegalAccessException error) {
            if (type.getName().startsWith(EVENTS) && !type.isInterface()) return event(type);
            throw new Mismatch(type.getName() + " has no constructor without parameters");
        }
    }

    /** Some of AWS's classes for events have no constructor that could be called without knowing them. */
    private static Object event(Class<?> type) throws ReflectiveOperationException {
        Constructor<?> none = Object.class.getDeclaredConstructor();
        return ReflectionFactory.getReflectionFactory().newConstructorForSerialization(type, none).newInstance();
    }
}
