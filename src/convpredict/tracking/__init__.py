"""Runs in MLflow: the only place that imports it."""
