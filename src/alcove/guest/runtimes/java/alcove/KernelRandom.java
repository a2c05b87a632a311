package alcove;

import java.io.DataInputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.security.Provider;
import java.security.SecureRandomSpi;
import java.security.Security;

/**
 * The SecureRandom that everybody gets who does not ask for another: each byte is the kernel's, read when it is asked
 * for. Java's own keep a state or read ahead, and a clone would share that.
 */
public final class KernelRandom extends SecureRandomSpi {
    private static final long serialVersionUID = 1;
    private static final DataInputStream SOURCE = open();

    private static final class KernelProvider extends Provider {
        private static final long serialVersionUID = 1;

        KernelProvider() {
            super("Alcove", "1", "random numbers of the kernel's");
            put("SecureRandom.Kernel", KernelRandom.class.getName());
        }
    }

    static void install() {
        Security.insertProviderAt(new KernelProvider(), 1);
    }

    private static DataInputStream open() {
        try {
            return new DataInputStream(new FileInputStream("/dev/urandom"));
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    protected void engineSetSeed(byte[] seed) {
        // The kernel has better.
    }

    @Override
    protected void engineNextBytes(byte[] bytes) {
        try {
            SOURCE.readFully(bytes);
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    protected byte[] engineGenerateSeed(int count) {
        byte[] seed = new byte[count];
        engineNextBytes(seed);
        return seed;
    }
}
