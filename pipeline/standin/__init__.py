"""Stand-ins for services that live elsewhere, for the demo and the tests."""
