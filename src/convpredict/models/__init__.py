"""Models: the scorecard, the conversion model, calibration, explanations, and bundles of them."""
