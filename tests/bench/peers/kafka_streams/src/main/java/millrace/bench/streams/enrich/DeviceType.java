package millrace.bench.streams.enrich;

import java.util.Locale;
import org.apache.avro.util.Utf8;

/** Kind of device behind a user agent, by the rule that every system of the bench applies. */
enum DeviceType {
    BOT,
    TABLET,
    MOBILE,
    DESKTOP,
    OTHER;

    private final Utf8 label = new Utf8(name().toLowerCase(Locale.ROOT));

    /** As the output spells it. */
    Utf8 label() {
        return label;
    }

    static DeviceType of(String userAgent) {
        String agent = userAgent.toLowerCase(Locale.ROOT);
        if (agent.contains("bot")) {
            return BOT;
        }
        if (agent.contains("ipad") || agent.contains("tablet")) {
            return TABLET;
        }
        if (agent.contains("mobi")) {
            return MOBILE;
        }
        if (agent.contains("windows") || agent.contains("macintosh") || agent.contains("linux")) {
            return DESKTOP;
        }
        return OTHER;
    }
}
