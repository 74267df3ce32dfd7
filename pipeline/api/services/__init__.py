"""What the routes share: the app's context and dependencies, asking accounts, coalesced reads, key names."""
