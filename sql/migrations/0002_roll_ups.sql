-- What every answer but the list of single requests is read from.
--
-- Each insert into `events` adds its sums here. Merging is never finished, so queries always sum and
-- group. `last_id` is the highest id in a group: an org's rows arrive in the order of their ids, so a
-- group can be compared with exactly the rows up to that id while more arrive.
--
-- Partitions are years: a query over a year opens few parts, which is most of what it costs.

CREATE TABLE IF NOT EXISTS usage_day {{on_cluster}} (
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
ENGINE = {{repl}}AggregatingMergeTree
PARTITION BY toYear(day)
PRIMARY KEY (org, day)
ORDER BY (org, day, model, key_id, provider, byok, tier)
SETTINGS index_granularity = 1024, {{journal_settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_feed {{on_cluster}} TO usage_day AS
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

-- For the rankings of the whole platform. A group has one writer, the partition its ids name, so that
-- `last_id` means here what it means above.

CREATE TABLE IF NOT EXISTS model_day {{on_cluster}} (
    day       Date,
    model     LowCardinality(String),
    partition UInt16,
    requests  SimpleAggregateFunction(sum, UInt64),
    tokens    SimpleAggregateFunction(sum, UInt64),
    last_id   SimpleAggregateFunction(max, UInt64)
)
ENGINE = {{repl}}AggregatingMergeTree
PARTITION BY toYear(day)
ORDER BY (day, model, partition)
SETTINGS index_granularity = 1024, {{journal_settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS model_day_feed {{on_cluster}} TO model_day AS
SELECT
    day,
    model,
    toUInt16(id % 1024) AS partition,
    count() AS requests,
    sum(toUInt64(prompt_tokens) + completion_tokens) AS tokens,
    max(id) AS last_id
FROM events
GROUP BY day, model, partition;
