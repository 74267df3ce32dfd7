"""What a figure is measured against: the same events through other programs."""
