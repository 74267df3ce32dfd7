"""Spoilt Kafka records, by a seed and in great numbers, through the core that posts them."""
