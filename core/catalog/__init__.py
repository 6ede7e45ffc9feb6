"""What can be chosen: base models, compute sizes and clusters, and what they cost."""
