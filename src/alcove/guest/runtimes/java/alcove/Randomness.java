package alcove;

import java.lang.reflect.Field;
import java.security.SecureRandom;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Reseeds every generator of the library's that a clone would share. The kernel's has fresh entropy already; what a
 * tenant's code has made itself (new Random() in its init code) is its own to make anew, in a hook.
 */
final class Randomness {
    private Randomness() {}

    static void reseed() throws Exception {
        // Those that read ahead from the kernel trust what they have by its age, and the clock has moved since.
        for (String name : new String[] {"NativePRNG", "NativePRNG$Blocking", "NativePRNG$NonBlocking"}) {
            Object source = value(Class.forName("sun.security.provider." + name), "INSTANCE", null);
            if (source != null) field(source.getClass(), "buffered").setInt(source, 0);
        }
        SecureRandom fresh = new SecureRandom();
        ((AtomicLong) value(Random.class, "seedUniquifier", null)).set(fresh.nextLong());
        seed(Class.forName("java.util.SplittableRandom"), "defaultGen", fresh);
        seed(Class.forName("java.util.concurrent.ThreadLocalRandom"), "seeder", fresh);
        reseedThreads(fresh);
        // Math.random() and Collections.shuffle() keep one each.
        reseed(value(Class.forName("java.lang.Math$RandomNumberGeneratorHolder"), "randomNumberGenerator", null), fresh);
        reseed(value(java.util.Collections.class, "r", null), fresh);
    }

    private static void reseed(Object random, SecureRandom fresh) {
        if (random != null) ((Random) random).setSeed(fresh.nextLong());
    }

    private static void seed(Class<?> type, String name, SecureRandom fresh) throws Exception {
        if (value(type, name, null) instanceof AtomicLong seed) seed.set(fresh.nextLong());
    }

    /** ThreadLocalRandom's state is in the threads. */
    private static void reseedThreads(SecureRandom fresh) throws Exception {
        Field seed = field(Thread.class, "threadLocalRandomSeed");
        for (Thread thread : Thread.getAllStackTraces().keySet()) seed.setLong(thread, fresh.nextLong());
    }

    private static Object value(Class<?> type, String name, Object of) throws Exception {
        return field(type, name).get(of);
    }

    private static Field field(Class<?> type, String name) throws NoSuchFieldException {
        Field field = type.getDeclaredField(name);
        field.setAccessible(true);
        return field;
    }
}
