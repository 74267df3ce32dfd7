"""Following: the verdicts and keys that Kafka brings, as admission needs them."""
