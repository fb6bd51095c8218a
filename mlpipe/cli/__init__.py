"""The command line: the only place that knows Typer. One command a file."""
