"""What everything else speaks of: forget specs, groups, configurations, files. NumPy at most."""
