-- The charged requests, as the journal has them: one row each, never changed.
--
-- `rid` is the id counted down from 2^53 - 1, so that the sort order is newest first within an org and
-- a page of events is a short forward read. `day` is the IST day of the request's own time.

CREATE TABLE IF NOT EXISTS events {{on_cluster}} (
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
ENGINE = {{repl}}MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (org, rid)
SETTINGS index_granularity = 1024, {{journal_settings}};
