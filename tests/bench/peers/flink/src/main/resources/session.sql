-- Job session: count what happens in a session, and tell when it has closed.

CREATE TABLE events (
    event_type STRING NOT NULL,
    event_time TIMESTAMP(3) NOT NULL,
    client_session_id STRING NOT NULL,
    WATERMARK FOR event_time AS event_time - INTERVAL '5' MINUTE
) WITH (
    'connector' = 'kafka',
    'topic' = '${input}',
    'properties.bootstrap.servers' = '${bootstrap}',
    'properties.group.id' = '${group}',
    'properties.max.poll.records' = '5000',
    'properties.max.partition.fetch.bytes' = '4194304',
    'properties.receive.buffer.bytes' = '1048576',
    'scan.startup.mode' = 'earliest-offset',
    'format' = 'avro-confluent',
    'avro-confluent.url' = '${registry}',
    'avro-confluent.schema' = '${shop-event.avsc}'
);

CREATE TABLE sessions (
    client_session_id STRING NOT NULL,
    started_at TIMESTAMP(3) NOT NULL,
    ended_at TIMESTAMP(3) NOT NULL,
    event_count INT NOT NULL,
    page_views INT NOT NULL,
    purchases INT NOT NULL
) WITH (
    'connector' = 'kafka',
    'topic' = '${output}',
    'properties.bootstrap.servers' = '${bootstrap}',
    'properties.compression.type' = 'lz4',
    'properties.linger.ms' = '5',
    'properties.batch.size' = '262144',
    'properties.transaction.timeout.ms' = '600000',
    'sink.delivery-guarantee' = '${guarantee}',
    'sink.transactional-id-prefix' = '${group}',
    'key.format' = 'raw',
    'key.fields' = 'client_session_id',
    'value.format' = 'avro-confluent',
    'value.avro-confluent.url' = '${registry}',
    'value.avro-confluent.schema' = '${output_schema}'
);

INSERT INTO sessions
SELECT
    client_session_id,
    window_start,
    -- A window ends a gap after its last event.
    window_end - INTERVAL '30' MINUTE,
    CAST(COUNT(*) AS INT),
    CAST(COUNT(*) FILTER (WHERE event_type = 'page_view') AS INT),
    CAST(COUNT(*) FILTER (WHERE event_type = 'purchase') AS INT)
FROM SESSION(TABLE events PARTITION BY client_session_id, DESCRIPTOR(event_time), INTERVAL '30' MINUTE)
GROUP BY client_session_id, window_start, window_end;
