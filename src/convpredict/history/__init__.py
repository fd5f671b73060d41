"""Histories: schema, sources, validation and quarantine, and a simulator with known truth."""
