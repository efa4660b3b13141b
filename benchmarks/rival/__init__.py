"""Rivals: ways to forget that start from the classifier in production, each from its paper."""
