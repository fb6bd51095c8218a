"""Sinks: one kind of output a file, and the only code that creates and renames files."""
