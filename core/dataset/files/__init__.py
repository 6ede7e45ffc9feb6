"""Files of chat data: formats, packings and encodings, read a part at a time as JSON lines."""
