package alcove;

/**
 * Looks at the beginning of an answer, byte by byte, to tell what it is: bytes that flow as they come, a JSON object,
 * or the head of an HTTP answer, which is a JSON object and eight NULs.
 */
final class Document {
    private static final int HEAD_END = 8;

    enum State {
        BEGINNING,
        /** Within an object. */
        OPEN,
        /** An object and no more so far. */
        WHOLE,
        HEAD,
        OTHER
    }

    private State state = State.BEGINNING;
    private int depth;
    private int zeros;
    private boolean inString;
    private boolean escaped;

    State state() {
        return state;
    }

    /** What comes is neither an object nor a head, whatever it looks like. */
    void giveUp() {
        if (state != State.HEAD) state = State.OTHER;
    }

    void look(byte[] data, int start, int end) {
        for (int at = start; at < end && state != State.HEAD && state != State.OTHER; at++) look(data[at]);
    }

    private void look(byte next) {
        if (state == State.OPEN) inside(next);
        else if (state == State.WHOLE && next == 0) {
            if (++zeros == HEAD_END) state = State.HEAD;
        } else if (zeros > 0 || " \t\r\n".indexOf(next) < 0) {
            boolean opens = state == State.BEGINNING && next == '{';
            state = opens ? State.OPEN : State.OTHER;
            depth = 1;
        }
    }

    private void inside(byte next) {
        if (escaped) escaped = false;
        else if (inString) {
            escaped = next == '\\';
            inString = next != '"';
        } else if (next == '"') inString = true;
        else if (next == '{') depth++;
        else if (next == '}' && --depth == 0) state = State.WHOLE;
    }
}
