"""Checks of conversations: what is wrong with a line, a row, a text and a whole file."""
