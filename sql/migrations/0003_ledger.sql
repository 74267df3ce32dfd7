-- The money events of every org, as the journal has them. Single requests are not in it.

CREATE TABLE IF NOT EXISTS ledger {{on_cluster}} (
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
ENGINE = {{repl}}MergeTree
ORDER BY (org, rid)
SETTINGS index_granularity = 1024, {{journal_settings}};
