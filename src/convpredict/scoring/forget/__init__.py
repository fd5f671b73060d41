"""Erasing a person: from every file of a project, for good, and proved by a search."""
