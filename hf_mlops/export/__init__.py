"""Weights of targets as classifiers in ONNX, and back."""
