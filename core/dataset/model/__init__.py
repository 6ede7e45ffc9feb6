"""What a chosen model makes of rows: its template and tokens, in a process with limits."""
