package millrace.bench.flink;

import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;

/** Kind of device behind a user agent, by the rule that every system of the bench applies; remembers what it has seen. */
public final class DeviceType extends ScalarFunction {
    private static final long serialVersionUID = 1;
    private static final int MOST = 100_000;

    private transient Map<String, String> known;

    public @DataTypeHint("STRING NOT NULL") String eval(@DataTypeHint("STRING NOT NULL") String userAgent) {
        if (known == null) {
            known = new HashMap<>();
        }
        String found = known.get(userAgent);
        if (found == null) {
            found = of(userAgent.toLowerCase(Locale.ROOT));
            if (known.size() < MOST) {
                known.put(userAgent, found);
            }
        }
        return found;
    }

    private static String of(String agent) {
        if (agent.contains("bot")) {
            return "bot";
        }
        if (agent.contains("ipad") || agent.contains("tablet")) {
            return "tablet";
        }
        if (agent.contains("mobi")) {
            return "mobile";
        }
        if (agent.contains("windows") || agent.contains("macintosh") || agent.contains("linux")) {
            return "desktop";
        }
        return "other";
    }
}
