package alcove;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** Tells the host where a request's output ends. The tenant may have replaced System.err. */
final class Marker {
    private static final FileOutputStream ERRORS = new FileOutputStream(FileDescriptor.err);

    private Marker() {}

    static void end(String requestId) {
        try {
            ERRORS.write(("\0alcove:end:" + requestId + "\0").getBytes(StandardCharsets.UTF_8));
        } catch (IOException error) {
            // The tenant may have closed it.
        }
    }
}
