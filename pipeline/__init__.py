"""BharatRouter metering: from finished requests to exact money and fast answers.

Start reading at `docs/PATH.md`, which follows one event through the product.
"""
