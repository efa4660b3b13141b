"""Data sets: reading, splitting, and what a split holds."""
