"""Watching what was published: drift, realised calibration, when to train again."""
