"""Data directories of releases, kept for ever, and the test that starts the present code on a copy of each.

Each `NAME.tar.xz` is what `metering up` of one release left behind: the broker's log, the engine's tables, a gateway's
spool with events that were not sent yet, and `expected.json`, what the accounts had. A release makes its own with
`python -m tests.support.golden NAME` and adds it; none is ever made again, as what matters is what that release wrote.
"""
