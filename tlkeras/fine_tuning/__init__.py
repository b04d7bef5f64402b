"""Training a network on from its head on frozen features: the course, its state, and whether it was worth it."""
