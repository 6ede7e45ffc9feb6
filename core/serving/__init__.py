"""Registered models, online endpoints, and conversations with them."""
