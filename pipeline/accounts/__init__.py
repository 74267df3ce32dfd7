"""Accounts: balances, keys, budgets, and what may be decided about them. Pure."""
