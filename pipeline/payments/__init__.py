"""Payments: what Razorpay reports reaches the accounts, and is compared with what they hold."""
