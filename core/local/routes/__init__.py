"""What the local workspace answers, a module per noun; each lists its own ROUTES."""
