"""Gateways as processes of their own: one to be killed, several for bursts."""
