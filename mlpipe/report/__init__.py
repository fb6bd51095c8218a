"""Records, rendered: tables and progress. Nothing here measures."""
