"""Everything Tunedeck knows and does; it knows no screen."""
