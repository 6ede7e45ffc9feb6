"""Alerts: what an operator wants to be told of, the webhook that tells it, and what became of each message."""
