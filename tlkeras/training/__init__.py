"""From data to a trained, calibrated, measured classifier."""
