"""Forms of rows: the table of those that are known, and how a row of each becomes messages."""
