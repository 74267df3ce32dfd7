"""What a data directory of a release is made of, and how `metering up` is run on one."""
