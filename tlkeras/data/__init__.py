"""Data sets: folders, lists and named sets of labelled images."""
