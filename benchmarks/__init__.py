"""Figures against peers and against the physical floor; each module prints its own table."""
