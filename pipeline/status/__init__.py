"""What `metering status` shows: how each part is, how far behind, and the day's figures, of a whole deployment at once."""
