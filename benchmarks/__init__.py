"""mlpipe side by side with the tools people use today; ``make bench`` writes the results."""
