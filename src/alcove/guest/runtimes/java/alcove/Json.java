package alcove;

import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.temporal.TemporalAccessor;
import java.time.temporal.TemporalAmount;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/** JSON to and from maps, lists, strings, numbers, booleans and null; and from records and beans. */
final class Json {
    private static final int MAX_DEPTH = 512;

    static final class Malformed extends RuntimeException {
        Malformed(String message) {
            super(message);
        }
    }

    private final String text;
    private int at;
    private int depth;

    private Json(String text) {
        this.text = text;
    }

    /** Numbers become Integer, Long or BigInteger, or Double where they have a fraction or an exponent. */
    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value();
        if (json.next() != 0) throw json.malformed();
        return value;
    }

    /** The object that the host sent. */
    @SuppressWarnings("unchecked")
    static Map<String, Object> object(byte[] document) {
        return (Map<String, Object>) parse(new String(document, StandardCharsets.UTF_8));
    }

    private Malformed malformed() {
        return new Malformed(at >= text.length() ? "unexpected end" : "unexpected character at position " + at);
    }

    /** The next character that is no space, which stays; 0 at the end. */
    private char next() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
        return at < text.length() ? text.charAt(at) : 0;
    }

    private void expect(char wanted) {
        if (next() != wanted) throw malformed();
        at++;
    }

    private Object value() {
        return switch (next()) {
            case '{' -> object();
            case '[' -> array();
            case '"' -> string();
            case 't' -> word("true", Boolean.TRUE);
            case 'f' -> word("false", Boolean.FALSE);
            case 'n' -> word("null", null);
            default -> number();
        };
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) throw malformed();
        at += word.length();
        return value;
    }

    private Map<String, Object> object() {
        Map<String, Object> found = new LinkedHashMap<>();
        enter();
        if (next() == '}') return leave(found);
        for (;;) {
            if (next() != '"') throw malformed();
            String key = string();
            expect(':');
            found.put(key, value());
            if (next() == '}') return leave(found);
            expect(',');
        }
    }

    private List<Object> array() {
        List<Object> found = new ArrayList<>();
        enter();
        if (next() == ']') return leave(found);
        for (;;) {
            found.add(value());
            if (next() == ']') return leave(found);
            expect(',');
        }
    }

    private void enter() {
        at++;
        if (++depth > MAX_DEPTH) throw new Malformed("nested too deeply");
    }

    private <T> T leave(T found) {
        at++;
        depth--;
        return found;
    }

    private String string() {
        StringBuilder found = new StringBuilder();
        for (at++; ; at++) {
            if (at >= text.length()) throw malformed();
            char character = text.charAt(at);
            if (character == '"') break;
            if (character < ' ') throw malformed();
            found.append(character == '\\' ? escaped() : character);
        }
        at++;
        return found.toString();
    }

    private char escaped() {
        if (++at >= text.length()) throw malformed();
        int index = "\"\\/bfnrt".indexOf(text.charAt(at));
        if (index >= 0) return "\"\\/\b\f\n\r\t".charAt(index);
        if (text.charAt(at) != 'u' || at + 4 >= text.length()) throw malformed();
        try {
            char found = (char) Integer.parseInt(text, at + 1, at + 5, 16);
            at += 4;
            return found;
        } catch (NumberFormatException error) {
            throw malformed();
        }
    }

    private Object number() {
        int start = at;
        while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) at++;
        String digits = text.substring(start, at);
        if (!digits.matches("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?")) {
            at = start;
            throw malformed();
        }
        if (digits.matches(".*[.eE].*")) return Double.valueOf(digits);
        BigInteger number = new BigInteger(digits);
        if (number.bitLength() < 32) return number.intValue();
        return number.bitLength() < 64 ? (Object) number.longValue() : number;
    }

    /** Raises ``Malformed`` for what has no JSON: other classes, NaN, what holds itself. */
    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(out, value, new IdentityHashMap<>());
        return out.toString();
    }

    private static void write(StringBuilder out, Object value, Map<Object, Object> inside) {
        if (value == null || value instanceof Boolean) out.append(value);
        else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
            quote(out, value.toString());
        } else if (value instanceof Number number) number(out, number);
        else if (isText(value)) quote(out, value.toString());
        else if (value instanceof Optional<?> optional) write(out, optional.orElse(null), inside);
        else {
            if (inside.put(value, value) != null || inside.size() > MAX_DEPTH) throw new Malformed("it holds itself");
            if (value instanceof Map<?, ?> map) object(out, map, inside);
            else if (value instanceof Iterable || value.getClass().isArray()) array(out, value, inside);
            else object(out, properties(value), inside);
            inside.remove(value);
        }
    }

    private static boolean isText(Object value) {
        return value instanceof TemporalAccessor || value instanceof TemporalAmount || value instanceof UUID || value instanceof URI;
    }

    private static Map<String, Object> properties(Object value) {
        String name = value.getClass().getName();
        try {
            // Java's own classes are no beans.
            Map<String, Object> found = name.startsWith("java.") ? Map.of() : Beans.of(value.getClass()).get(value);
            if (!found.isEmpty() || value instanceof Record) return found;
        } catch (ReflectiveOperationException error) {
            throw new Malformed(name + ": " + (error.getCause() == null ? error : error.getCause()));
        }
        throw new Malformed(name + " has no JSON; return a Map, a List, a String or an object that has properties");
    }

    private static void number(StringBuilder out, Number value) {
        double approximate = value.doubleValue();
        boolean exact = value instanceof BigInteger || value instanceof BigDecimal;
        if (!exact && (Double.isNaN(approximate) || Double.isInfinite(approximate))) {
            throw new Malformed(value + " has no JSON");
        }
        out.append(value);
    }

    private static void object(StringBuilder out, Map<?, ?> map, Map<Object, Object> inside) {
        String comma = "{";
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            out.append(comma);
            quote(out, String.valueOf(entry.getKey()));
            out.append(':');
            write(out, entry.getValue(), inside);
            comma = ",";
        }
        out.append(map.isEmpty() ? "{}" : "}");
    }

    private static void array(StringBuilder out, Object value, Map<Object, Object> inside) {
        out.append('[');
        String comma = "";
        if (value instanceof Iterable<?> items) {
            for (Object item : items) {
                out.append(comma);
                write(out, item, inside);
                comma = ",";
            }
        } else {
            for (int index = 0; index < Array.getLength(value); index++) {
                out.append(comma);
                write(out, Array.get(value, index), inside);
                comma = ",";
            }
        }
        out.append(']');
    }

    private static void quote(StringBuilder out, String text) {
        out.append('"');
        for (int index = 0; index < text.length(); index++) {
            char character = text.charAt(index);
            int short_form = "\"\\\b\f\n\r\t".indexOf(character);
            if (short_form >= 0) out.append('\\').append("\"\\bfnrt".charAt(short_form));
            else if (character < ' ' || Character.isSurrogate(character)) {
                out.append(String.format("\\u%04x", (int) character));
            } else out.append(character);
        }
        out.append('"');
    }
}
