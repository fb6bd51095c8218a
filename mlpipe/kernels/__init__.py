"""Compiled loops: arrays in, results into arrays given; no input, output or validation."""
