"""What the routes share: the app's context, the services behind billing, coalesced reads, key names."""
