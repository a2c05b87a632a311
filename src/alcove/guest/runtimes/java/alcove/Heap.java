package alcove;

import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import javax.management.NotificationEmitter;

/**
 * Keeps the heap to a function's memory. The machine is started before that is known, with a heap for the largest
 * function: it would let garbage grow to that before it collects any. So the old generation is collected when it holds
 * half of what the function has; what is alive beyond the limit ends the function, by its control group.
 */
final class Heap {
    private Heap() {}

    static void watch() {
        var memory = (NotificationEmitter) ManagementFactory.getMemoryMXBean();
        memory.addNotificationListener((notification, nothing) -> System.gc(), null, null);
    }

    static void limit(int memoryMib) {
        for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
            if (pool.getType() == MemoryType.HEAP && pool.isUsageThresholdSupported()) {
                pool.setUsageThreshold((long) memoryMib << 19);
            }
        }
    }
}
