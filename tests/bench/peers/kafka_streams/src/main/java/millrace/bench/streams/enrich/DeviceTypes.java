package millrace.bench.streams.enrich;

import java.util.HashMap;
import java.util.Map;
import org.apache.avro.util.Utf8;

/** Remembers the device of every user agent seen. For one thread. */
final class DeviceTypes {
    private static final int MOST = 100_000;

    private final Map<Utf8, DeviceType> known = new HashMap<>();

    /** @param userAgent may be written over by the caller afterwards */
    DeviceType of(Utf8 userAgent) {
        DeviceType found = known.get(userAgent);
        if (found == null) {
            found = DeviceType.of(userAgent.toString());
            if (known.size() < MOST) {
                known.put(new Utf8(userAgent), found);
            }
        }
        return found;
    }
}
