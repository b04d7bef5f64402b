"""The report of a run: one HTML file that holds its pictures, needs no network and runs no one else's code."""
