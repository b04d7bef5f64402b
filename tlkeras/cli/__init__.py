"""The ``tlkeras`` command: parse, call, print."""
