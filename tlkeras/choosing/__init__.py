"""Choosing what to build on: which network, whether its features transfer, how many photos it takes."""
