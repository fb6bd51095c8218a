"""Sources: one kind of input a file."""
