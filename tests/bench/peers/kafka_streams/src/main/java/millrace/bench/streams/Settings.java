package millrace.bench.streams;

import static org.apache.kafka.streams.StreamsConfig.consumerPrefix;
import static org.apache.kafka.streams.StreamsConfig.producerPrefix;

import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsConfig;

/** Settings of Kafka Streams: the bench's equal terms, and buffers large enough for a service that catches up. */
final class Settings {
    private static final int COMMIT_INTERVAL_MS = 100;
    private static final int LINGER_MS = 5;
    private static final int MAX_POLL_RECORDS = 5_000;
    private static final int BUFFERED_RECORDS_PER_PARTITION = 10_000;
    private static final int FETCH_BYTES_PER_PARTITION = 4 << 20;
    private static final int SOCKET_BUFFER_BYTES = 1 << 20;
    private static final int BATCH_BYTES = 256 << 10;
    private static final long PRODUCER_MEMORY_BYTES = 64L << 20;

    private Settings() {}

    static Properties of(Environment environment) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, environment.group());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, environment.bootstrapServers());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, environment.stateFolder().toString());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, environment.guarantee());
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, environment.threads());
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, COMMIT_INTERVAL_MS);
        settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, BUFFERED_RECORDS_PER_PARTITION);
        // Closed sessions are looked for so often. Its default of a second is minutes of a log that is read from the beginning.
        settings.put(
                StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, (long) COMMIT_INTERVAL_MS);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Store.class);
        settings.put(StreamsConfig.ENABLE_METRICS_PUSH_CONFIG, false);
        settings.put(consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), MAX_POLL_RECORDS);
        settings.put(consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), FETCH_BYTES_PER_PARTITION);
        settings.put(consumerPrefix(ConsumerConfig.RECEIVE_BUFFER_CONFIG), SOCKET_BUFFER_BYTES);
        settings.put(producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(producerPrefix(ProducerConfig.LINGER_MS_CONFIG), LINGER_MS);
        settings.put(producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), BATCH_BYTES);
        settings.put(producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), PRODUCER_MEMORY_BYTES);
        settings.put(producerPrefix(ProducerConfig.SEND_BUFFER_CONFIG), SOCKET_BUFFER_BYTES);
        return settings;
    }
}
