"""The local parts: the embedded broker, and the supervisor behind `metering up`."""
