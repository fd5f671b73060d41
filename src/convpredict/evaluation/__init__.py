"""Metrics, their intervals over leads, the comparison with the scorecard, and its figures."""
