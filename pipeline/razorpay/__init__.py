"""The door to Razorpay: its REST API, its webhooks, its signatures."""
