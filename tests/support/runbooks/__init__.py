"""What a person does who was paged, done by a test: reading a runbook, running its commands, waiting for the alert."""
