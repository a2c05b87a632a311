package alcove;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * What requests that share the runtime print, said to be of the request whose thread printed it: the host cuts output
 * by it (functions/request_log.py). What threads of the function's own print is nobody's.
 */
final class SharedOutput extends OutputStream {
    private static final byte[] NOBODY = "\0alcove:of:\0".getBytes(StandardCharsets.UTF_8);
    private static final ThreadLocal<String> WHOSE = new ThreadLocal<>();

    private final FileOutputStream plain;

    private SharedOutput(FileDescriptor descriptor) {
        plain = new FileOutputStream(descriptor);
    }

    /** Before the function's own code, which takes hold of streams. */
    static void install() {
        System.setOut(new PrintStream(new SharedOutput(FileDescriptor.out), true));
        System.setErr(new PrintStream(new SharedOutput(FileDescriptor.err), true));
    }

    /** What this thread prints from now on is that request's; null: nobody's. */
    static void begin(String requestId) {
        WHOSE.set(requestId);
    }

    @Override
    public void write(int value) throws IOException {
        write(new byte[] {(byte) value}, 0, 1);
    }

    @Override
    public void write(byte[] text, int offset, int length) throws IOException {
        String whose = WHOSE.get();
        if (whose == null) {
            plain.write(text, offset, length);
            return;
        }
        byte[] marker = ("\0alcove:of:" + whose + "\0").getBytes(StandardCharsets.UTF_8);
        byte[] all = new byte[marker.length + length + NOBODY.length];
        System.arraycopy(marker, 0, all, 0, marker.length);
        System.arraycopy(text, offset, all, marker.length, length);
        System.arraycopy(NOBODY, 0, all, marker.length + length, NOBODY.length);
        plain.write(all);
    }
}
