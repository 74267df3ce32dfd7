"""Sending: an event is prepared, kept in the spool on disk, and sent to Kafka from there."""
