-- Which shard of how many the database is. One that says nothing is the only one there is.
--
-- additive: yes

ALTER TABLE deployment {{on_cluster}}
    ADD COLUMN IF NOT EXISTS shard UInt16 DEFAULT 1,
    ADD COLUMN IF NOT EXISTS shards UInt16 DEFAULT 1;
