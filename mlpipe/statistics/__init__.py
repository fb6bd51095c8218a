"""What describes columns of numbers: moments, extremes, order statistics, how columns vary together."""
