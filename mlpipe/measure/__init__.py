"""What a run costs: time by link, memory by kind, and the record it leaves behind."""
