-- Whose database this is. The sink compares it with its deployment's topics before it writes anything.
--
-- `epoch` counts how often the database was made again from the journal: the newest row counts. A row is never changed.
--
-- additive: yes

CREATE TABLE IF NOT EXISTS deployment {{on_cluster}} (
    name     String,
    id       String,
    epoch    UInt32,
    at       DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {{repl}}MergeTree
ORDER BY (epoch, name, id)
SETTINGS {{journal_settings}};
