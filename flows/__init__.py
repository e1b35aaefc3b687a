"""In which order: flows read like a table of contents."""
