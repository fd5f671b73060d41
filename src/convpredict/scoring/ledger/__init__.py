"""Every score ever published, how it came about, and what became of it."""
