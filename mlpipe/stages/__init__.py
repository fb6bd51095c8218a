"""What happens to rows on their way: one verb a file."""
