-- What requests cost by the IST day they were posted on, and where the ids of that day end: past balances, and the bounds
-- of statements. `day` is the IST day of the request's own time, as in the other roll-ups: of a late request it is an earlier
-- one. By model, key and provider `usage_day` has the sums: as groups here they would cost each insert half as much again.
--
-- The view begins with what is inserted from now on. Of each partition of the journal, `filled_roll_ups` says whether the
-- rows from before are in the roll-up too: the partition's sink adds them when it takes the partition over, as only then
-- nothing of it is under way (clickhouse/fill.py). In a database without rows there is nothing to add.
--
-- additive: yes

CREATE TABLE IF NOT EXISTS posted_day {{on_cluster}} (
    org        String,
    posted_day Date,
    day        Date,
    requests   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nano  SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    last_id    SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1))
)
ENGINE = {{repl}}AggregatingMergeTree
PARTITION BY toYear(day)
ORDER BY (org, posted_day, day)
SETTINGS index_granularity = 1024,
    min_bytes_for_wide_part = 1000000000000,
    min_age_to_force_merge_seconds = 21600,
    min_age_to_force_merge_on_partition_only = 1,
    enable_max_bytes_limit_for_min_age_to_force_merge = 1,
    {{journal_settings}};

CREATE TABLE IF NOT EXISTS filled_roll_ups {{on_cluster}} (
    roll_up   LowCardinality(String),
    partition UInt16
)
ENGINE = {{repl}}MergeTree
ORDER BY (roll_up, partition)
SETTINGS {{journal_settings}};

CREATE MATERIALIZED VIEW IF NOT EXISTS posted_day_feed {{on_cluster}} TO posted_day AS
SELECT
    org,
    toDate(fromUnixTimestamp64Milli(posted_ms, 'Asia/Kolkata')) AS posted_day,
    day,
    count() AS requests,
    sum(cost_nano) AS cost_nano,
    max(id) AS last_id
FROM events
GROUP BY org, posted_day, day;

INSERT INTO filled_roll_ups (roll_up, partition)
SELECT 'posted_day', arrayJoin(range(1024)) WHERE (SELECT count() FROM events) = 0;
