package alcove;

import java.util.Map;

/** The sample handler: called and forgotten before a tenant's code comes. */
public final class Rehearsal {
    public Map<String, Object> handler(Map<String, Object> event) {
        return Map.of("echo", event.toString());
    }
}
