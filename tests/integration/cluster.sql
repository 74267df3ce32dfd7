-- to replica 1 of shard 1

CREATE DATABASE IF NOT EXISTS `metering` ON CLUSTER 'main';

CREATE TABLE IF NOT EXISTS schema_versions ON CLUSTER 'main' (
    version    UInt16,
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplicatedMergeTree
ORDER BY version;

ALTER TABLE schema_versions ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS additive Bool;

CREATE TABLE IF NOT EXISTS events ON CLUSTER 'main' (
    id                UInt64 CODEC(Delta, ZSTD(1)),
    org               String CODEC(ZSTD(1)),
    at_ms             Int64 CODEC(Delta, ZSTD(1)),
    posted_ms         Int64 CODEC(Delta, ZSTD(1)),
    source            String CODEC(ZSTD(1)),
    event_id          String CODEC(ZSTD(1)),
    key_id            String CODEC(ZSTD(1)),
    tier              LowCardinality(String),
    byok              Bool,
    model             LowCardinality(String),
    provider          LowCardinality(String),
    status            UInt16 CODEC(ZSTD(1)),
    error_code        LowCardinality(String),
    latency_ms        UInt32 CODEC(T64, ZSTD(1)),
    ttft_ms           Nullable(UInt32) CODEC(ZSTD(1)),
    stream            Bool,
    prompt_tokens     UInt32 CODEC(T64, ZSTD(1)),
    cached_tokens     UInt32 CODEC(T64, ZSTD(1)),
    completion_tokens UInt32 CODEC(T64, ZSTD(1)),
    reasoning_tokens  UInt32 CODEC(T64, ZSTD(1)),
    cost_nano         Int64 CODEC(T64, ZSTD(1)),
    rate_from_ms      Int64 CODEC(ZSTD(1)),
    rid               UInt64 MATERIALIZED 9007199254740991 - id CODEC(Delta, ZSTD(1)),
    day               Date MATERIALIZED toDate(fromUnixTimestamp64Milli(at_ms, 'Asia/Kolkata')) CODEC(ZSTD(1)),
    INDEX id_range id TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (org, rid)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 100000, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

CREATE TABLE IF NOT EXISTS usage_day ON CLUSTER 'main' (
    org               String,
    day               Date,
    model             LowCardinality(String),
    key_id            String,
    provider          LowCardinality(String),
    byok              Bool,
    tier              LowCardinality(String),
    requests          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    errors            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    prompt_tokens     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cached_tokens     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    completion_tokens SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nano         SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    last_id           SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1))
)
ENGINE = ReplicatedAggregatingMergeTree
PARTITION BY toYear(day)
PRIMARY KEY (org, day)
ORDER BY (org, day, model, key_id, provider, byok, tier)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 100000, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_feed ON CLUSTER 'main' TO usage_day AS
SELECT
    org,
    day,
    model,
    key_id,
    provider,
    byok,
    tier,
    count() AS requests,
    countIf(status >= 400) AS errors,
    sum(prompt_tokens) AS prompt_tokens,
    sum(cached_tokens) AS cached_tokens,
    sum(completion_tokens) AS completion_tokens,
    sum(cost_nano) AS cost_nano,
    max(id) AS last_id
FROM events
GROUP BY org, day, model, key_id, provider, byok, tier;

CREATE TABLE IF NOT EXISTS model_day ON CLUSTER 'main' (
    day       Date,
    model     LowCardinality(String),
    partition UInt16,
    requests  SimpleAggregateFunction(sum, UInt64),
    tokens    SimpleAggregateFunction(sum, UInt64),
    last_id   SimpleAggregateFunction(max, UInt64)
)
ENGINE = ReplicatedAggregatingMergeTree
PARTITION BY toYear(day)
ORDER BY (day, model, partition)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 100000, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_day_feed ON CLUSTER 'main' TO model_day AS
SELECT
    day,
    model,
    toUInt16(id % 1024) AS partition,
    count() AS requests,
    sum(toUInt64(prompt_tokens) + completion_tokens) AS tokens,
    max(id) AS last_id
FROM events
GROUP BY day, model, partition;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

CREATE TABLE IF NOT EXISTS ledger ON CLUSTER 'main' (
    id                 UInt64 CODEC(Delta, ZSTD(1)),
    org                String CODEC(ZSTD(1)),
    posted_ms          Int64 CODEC(Delta, ZSTD(1)),
    kind               LowCardinality(String),
    amount_nano        Int64 CODEC(T64, ZSTD(1)),
    balance_after_nano Int64 CODEC(T64, ZSTD(1)),
    payment_id         String CODEC(ZSTD(1)),
    order_id           String CODEC(ZSTD(1)),
    promo_code         String CODEC(ZSTD(1)),
    note               String CODEC(ZSTD(1)),
    rid                UInt64 MATERIALIZED 9007199254740991 - id CODEC(Delta, ZSTD(1)),
    INDEX id_range id TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
ORDER BY (org, rid)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 100000, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

ALTER TABLE events ON CLUSTER 'main' MODIFY SETTING
    min_age_to_force_merge_seconds = 21600,
    min_age_to_force_merge_on_partition_only = 1,
    enable_max_bytes_limit_for_min_age_to_force_merge = 1;

ALTER TABLE usage_day ON CLUSTER 'main' MODIFY SETTING
    min_bytes_for_wide_part = 1000000000000,
    min_age_to_force_merge_seconds = 21600,
    min_age_to_force_merge_on_partition_only = 1,
    enable_max_bytes_limit_for_min_age_to_force_merge = 1;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

ATTACH TABLE IF NOT EXISTS usage_day_feed ON CLUSTER 'main';

ATTACH TABLE IF NOT EXISTS model_day_feed ON CLUSTER 'main';

ALTER TABLE events ON CLUSTER 'main'
    ADD COLUMN IF NOT EXISTS cache_write_tokens UInt32 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS audio_input_tokens UInt32 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS audio_output_tokens UInt32 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS irregular UInt8 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS beside_tokens UInt32 MATERIALIZED if(irregular = 2, reasoning_tokens, 0) CODEC(T64, ZSTD(1));

ALTER TABLE usage_day ON CLUSTER 'main'
    ADD COLUMN IF NOT EXISTS beside_tokens SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)) AFTER completion_tokens;

ALTER TABLE usage_day_feed ON CLUSTER 'main' MODIFY QUERY
SELECT
    org,
    day,
    model,
    key_id,
    provider,
    byok,
    tier,
    count() AS requests,
    countIf(status >= 400) AS errors,
    sum(prompt_tokens) AS prompt_tokens,
    sum(cached_tokens) AS cached_tokens,
    sum(completion_tokens) AS completion_tokens,
    sum(beside_tokens) AS beside_tokens,
    sum(cost_nano) AS cost_nano,
    max(id) AS last_id
FROM events
GROUP BY org, day, model, key_id, provider, byok, tier;

ALTER TABLE model_day_feed ON CLUSTER 'main' MODIFY QUERY
SELECT
    day,
    model,
    toUInt16(id % 1024) AS partition,
    count() AS requests,
    sum(toUInt64(prompt_tokens) + completion_tokens + beside_tokens) AS tokens,
    max(id) AS last_id
FROM events
GROUP BY day, model, partition;

DETACH TABLE IF EXISTS usage_day_feed ON CLUSTER 'main' SYNC;

ATTACH TABLE IF NOT EXISTS usage_day_feed ON CLUSTER 'main';

DETACH TABLE IF EXISTS model_day_feed ON CLUSTER 'main' SYNC;

ATTACH TABLE IF NOT EXISTS model_day_feed ON CLUSTER 'main';

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

CREATE TABLE IF NOT EXISTS deployment ON CLUSTER 'main' (
    name     String,
    id       String,
    epoch    UInt32,
    at       DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplicatedMergeTree
ORDER BY (epoch, name, id)
SETTINGS non_replicated_deduplication_window = 100000, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

CREATE TABLE IF NOT EXISTS posted_day ON CLUSTER 'main' (
    org        String,
    posted_day Date,
    day        Date,
    requests   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nano  SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    last_id    SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1))
)
ENGINE = ReplicatedAggregatingMergeTree
PARTITION BY toYear(day)
ORDER BY (org, posted_day, day)
SETTINGS index_granularity = 1024,
    min_bytes_for_wide_part = 1000000000000,
    min_age_to_force_merge_seconds = 21600,
    min_age_to_force_merge_on_partition_only = 1,
    enable_max_bytes_limit_for_min_age_to_force_merge = 1,
    non_replicated_deduplication_window = 100000, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS filled_roll_ups ON CLUSTER 'main' (
    roll_up   LowCardinality(String),
    partition UInt16
)
ENGINE = ReplicatedMergeTree
ORDER BY (roll_up, partition)
SETTINGS non_replicated_deduplication_window = 100000, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS posted_day_feed ON CLUSTER 'main' TO posted_day AS
SELECT
    org,
    toDate(fromUnixTimestamp64Milli(posted_ms, 'Asia/Kolkata')) AS posted_day,
    day,
    count() AS requests,
    sum(cost_nano) AS cost_nano,
    max(id) AS last_id
FROM events
GROUP BY org, posted_day, day;

INSERT INTO filled_roll_ups (roll_up, partition);

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

ALTER TABLE deployment ON CLUSTER 'main'
    ADD COLUMN IF NOT EXISTS shard UInt16 DEFAULT 1,
    ADD COLUMN IF NOT EXISTS shards UInt16 DEFAULT 1;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO deployment (`name`, `id`, `epoch`, `shard`, `shards`) FORMAT JSONCompactEachRow;

-- to replica 2 of shard 1

-- to replica 1 of shard 2

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO schema_versions (`version`, `name`, `checksum`, `additive`) FORMAT JSONCompactEachRow;

INSERT INTO deployment (`name`, `id`, `epoch`, `shard`, `shards`) FORMAT JSONCompactEachRow;

-- to replica 2 of shard 2

