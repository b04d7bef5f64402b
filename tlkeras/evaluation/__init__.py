"""How good a classifier is: metrics with intervals, calibration, and their tables."""
