"""The model catalog: effective-dated rates per route, and what a request costs at one. Pure."""
