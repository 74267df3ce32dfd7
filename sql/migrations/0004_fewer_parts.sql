-- Few parts, and parts that are cheap to open, are most of what an answer costs beside its planning.
--
-- A month of requests or a year of sums that has had no rows for six hours is merged into one part, where it
-- is no larger than what the engine merges at all. Late rows only make that happen once more.
--
-- An org has few rows in each part of the roll-up. In a compact part they lie together, all columns in one
-- file, where in a wide one each column is a file with a block of many orgs' rows to unpack.

ALTER TABLE events {{on_cluster}} MODIFY SETTING
    min_age_to_force_merge_seconds = 21600,
    min_age_to_force_merge_on_partition_only = 1,
    enable_max_bytes_limit_for_min_age_to_force_merge = 1;

ALTER TABLE usage_day {{on_cluster}} MODIFY SETTING
    min_bytes_for_wide_part = 1000000000000,
    min_age_to_force_merge_seconds = 21600,
    min_age_to_force_merge_on_partition_only = 1,
    enable_max_bytes_limit_for_min_age_to_force_merge = 1;
