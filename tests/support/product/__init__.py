"""The whole product as real processes: alone, with Razorpay beside it, behind HTTP, and under traffic."""
