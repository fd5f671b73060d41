"""Observations, their labels, splits by time, and the training set made of them."""
