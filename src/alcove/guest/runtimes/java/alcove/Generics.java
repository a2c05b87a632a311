package alcove;

import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.util.HashMap;
import java.util.Map;

/** What a class has said for the type parameters of those that it extends and implements. */
final class Generics {
    private final Map<TypeVariable<?>, Type> known = new HashMap<>();

    Generics(Class<?> type) {
        learn(type);
    }

    private void learn(Class<?> type) {
        learn(type.getGenericSuperclass());
        for (Type one : type.getGenericInterfaces()) learn(one);
    }

    private void learn(Type type) {
        if (type instanceof ParameterizedType generic) {
            Class<?> raw = (Class<?>) generic.getRawType();
            for (int index = 0; index < raw.getTypeParameters().length; index++) {
                known.put(raw.getTypeParameters()[index], generic.getActualTypeArguments()[index]);
            }
            learn(raw);
        } else if (type instanceof Class<?> plain) learn(plain);
    }

    /** Return the type that a parameter of that type has in the class. */
    Type resolve(Type type) {
        while (type instanceof TypeVariable<?> variable && known.containsKey(variable)) type = known.get(variable);
        return type;
    }
}
