-- Job enrich: validate, tell the device, join the product.

CREATE TABLE user_events (
    eventId STRING NOT NULL,
    userId STRING,
    sessionId STRING NOT NULL,
    eventType STRING NOT NULL,
    `timestamp` TIMESTAMP(3) NOT NULL,
    -- Values that may be null make a property that is not there null; otherwise SQL takes it for ''.
    properties MAP<STRING NOT NULL, STRING> NOT NULL,
    context ROW<userAgent STRING NOT NULL> NOT NULL,
    WATERMARK FOR `timestamp` AS `timestamp`
) WITH (
    'connector' = 'kafka',
    'topic' = '${input}',
    'properties.bootstrap.servers' = '${bootstrap}',
    'properties.group.id' = '${group}',
    'properties.max.poll.records' = '5000',
    'properties.max.partition.fetch.bytes' = '4194304',
    'properties.receive.buffer.bytes' = '1048576',
    'scan.startup.mode' = 'earliest-offset',
    'scan.watermark.alignment.group' = 'enrich',
    'scan.watermark.alignment.max-drift' = '1 h',
    'format' = 'avro-confluent',
    'avro-confluent.url' = '${registry}',
    'avro-confluent.schema' = '${user-event.avsc}'
);

-- An event gets the product as it is known when the event is read, however young the product's facts are: so they are valid
-- from the beginning of time. The join waits until products have been silent for a while: then all of them are there. Alignment
-- makes the source of events wait too, or the join would have to keep what comes meanwhile.
CREATE TABLE products (
    id STRING NOT NULL,
    brand STRING,
    category STRING,
    price DOUBLE,
    valid_from AS CAST(TIMESTAMP '1970-01-01 00:00:00' AS TIMESTAMP(3)),
    WATERMARK FOR valid_from AS valid_from,
    PRIMARY KEY (id) NOT ENFORCED
) WITH (
    'connector' = 'upsert-kafka',
    'topic' = '${products}',
    'properties.bootstrap.servers' = '${bootstrap}',
    'properties.group.id' = '${group}-products',
    'scan.watermark.alignment.group' = 'enrich',
    'scan.watermark.alignment.max-drift' = '1 h',
    'scan.watermark.idle-timeout' = '5 s',
    'key.format' = 'raw',
    'value.format' = 'avro-confluent',
    'value.avro-confluent.url' = '${registry}',
    'value.avro-confluent.schema' = '${product.avsc}',
    'value.fields-include' = 'EXCEPT_KEY'
);

CREATE TABLE enriched (
    event_id STRING NOT NULL,
    client_session_id STRING NOT NULL,
    user_id STRING,
    event_type STRING NOT NULL,
    event_time TIMESTAMP(3) NOT NULL,
    device_type STRING NOT NULL,
    product_id STRING,
    product_brand STRING,
    product_category STRING,
    product_price_cents BIGINT
) WITH (
    'connector' = 'kafka',
    'topic' = '${output}',
    'properties.bootstrap.servers' = '${bootstrap}',
    'properties.compression.type' = 'lz4',
    'properties.linger.ms' = '5',
    'properties.batch.size' = '262144',
    'properties.buffer.memory' = '67108864',
    'properties.send.buffer.bytes' = '1048576',
    'properties.transaction.timeout.ms' = '600000',
    'sink.delivery-guarantee' = '${guarantee}',
    'sink.transactional-id-prefix' = '${group}',
    'key.format' = 'raw',
    'key.fields' = 'client_session_id',
    'value.format' = 'avro-confluent',
    'value.avro-confluent.url' = '${registry}',
    'value.avro-confluent.schema' = '${output_schema}'
);

CREATE TEMPORARY VIEW valid_events AS
SELECT
    eventId AS event_id,
    sessionId AS client_session_id,
    userId AS user_id,
    eventType AS event_type,
    `timestamp` AS event_time,
    DEVICE_TYPE(context.userAgent) AS device_type,
    properties['productId'] AS product_id
FROM user_events
WHERE eventId <> '' AND sessionId <> '';

INSERT INTO enriched
SELECT
    event_id,
    client_session_id,
    user_id,
    event_type,
    event_time,
    device_type,
    product_id,
    products.brand,
    products.category,
    CAST(ROUND(products.price * 100) AS BIGINT)
FROM valid_events
LEFT JOIN products FOR SYSTEM_TIME AS OF valid_events.event_time
    ON valid_events.product_id = products.id;
