package millrace.bench.streams;

import java.time.Duration;
import millrace.bench.streams.enrich.EnrichTopology;
import millrace.bench.streams.session.SessionTopology;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** Runs one job of the bench until SIGTERM; exits with 1 if a stream thread dies. */
public final class Main {
    private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(25);

    private Main() {}

    public static void main(String[] arguments) throws InterruptedException {
        Environment environment = Environment.of(System.getenv());
        KafkaStreams streams = new KafkaStreams(topology(environment), Settings.of(environment));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(CLOSE_TIMEOUT)));
        streams.start();
        Thread.currentThread().join();
    }

    private static Topology topology(Environment environment) {
        return switch (environment.job()) {
            case "enrich" -> EnrichTopology.of(environment);
            case "session" -> SessionTopology.of(environment);
            default -> throw new IllegalArgumentException("no such job: " + environment.job());
        };
    }
}
