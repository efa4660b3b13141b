"""Targets and populations of them: networks, training in chunks, what is kept."""
