"""A small believable platform for `metering demo`: who is on it, its last 30 days, and its live traffic."""
