"""Heads: the small classifiers that are fitted on stored features."""
