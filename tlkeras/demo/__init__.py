"""A page on this machine for trying a classifier: classes, where it looks, and how it is fooled."""
