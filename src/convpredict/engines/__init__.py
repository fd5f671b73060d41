"""Engines map a function over buckets of leads; they know the history, no features and no models."""
