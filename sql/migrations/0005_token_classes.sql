-- Tokens that have prices of their own, and the mark of a usage whose counts contradict each other.
--
-- `irregular` tells how the counts were read: 0 as they stand, 1 cut to what they are part of, 2 the reasoning was
-- counted beside the completion, 3 cached tokens and cache writes beside the prompt. Reasoning beside the completion is
-- output that no other count has, so answers add it to the tokens.
--
-- The engine tells a repeated block by its token and the view it goes through. After MODIFY QUERY it names a view
-- otherwise until the view is loaded anew, and a block that is sent again after that would count twice. So each view is
-- loaded anew here. Nothing may be inserted meanwhile: stop the sink first (docs/deploy.md).

ATTACH TABLE IF NOT EXISTS usage_day_feed {{on_cluster}};

ATTACH TABLE IF NOT EXISTS model_day_feed {{on_cluster}};

ALTER TABLE events {{on_cluster}}
    ADD COLUMN IF NOT EXISTS cache_write_tokens UInt32 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS audio_input_tokens UInt32 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS audio_output_tokens UInt32 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS irregular UInt8 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS beside_tokens UInt32 MATERIALIZED if(irregular = 2, reasoning_tokens, 0) CODEC(T64, ZSTD(1));

ALTER TABLE usage_day {{on_cluster}}
    ADD COLUMN IF NOT EXISTS beside_tokens SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)) AFTER completion_tokens;

ALTER TABLE usage_day_feed {{on_cluster}} MODIFY QUERY
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

ALTER TABLE model_day_feed {{on_cluster}} MODIFY QUERY
SELECT
    day,
    model,
    toUInt16(id % 1024) AS partition,
    count() AS requests,
    sum(toUInt64(prompt_tokens) + completion_tokens + beside_tokens) AS tokens,
    max(id) AS last_id
FROM events
GROUP BY day, model, partition;

DETACH TABLE IF EXISTS usage_day_feed {{on_cluster}} SYNC;

ATTACH TABLE IF NOT EXISTS usage_day_feed {{on_cluster}};

DETACH TABLE IF EXISTS model_day_feed {{on_cluster}} SYNC;

ATTACH TABLE IF NOT EXISTS model_day_feed {{on_cluster}};
