package millrace.bench.streams;

import java.util.Map;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.rocksdb.CompressionType;
import org.rocksdb.Options;

/** RocksDB for a state that fits into memory: larger write buffers, and no compression of what is soon deleted. */
public final class Store implements RocksDBConfigSetter {
    private static final long WRITE_BUFFER_BYTES = 32L << 20;

    @Override
    public void setConfig(String name, Options options, Map<String, Object> settings) {
        options.setWriteBufferSize(WRITE_BUFFER_BYTES);
        options.setCompressionType(CompressionType.NO_COMPRESSION);
    }

    @Override
    public void close(String name, Options options) {
        // Nothing here was allocated outside of `options`.
    }
}
