"""Features of the frozen backbone: computed once per image on the fastest engine, kept on disk."""
