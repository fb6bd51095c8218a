"""Comparisons: ways to compute and ways to load, timed side by side and checked against each other."""
