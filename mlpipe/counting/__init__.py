"""How often each value occurs: counters for every kind of value, and what is made of their tables."""
