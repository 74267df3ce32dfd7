"""The doors to Kafka: topics, a partition's fenced log, the group reader, followers, and commands."""
