"""Scoring: every open lead of a history at one instant."""
