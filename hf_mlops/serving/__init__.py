"""What a request needs at run time: NumPy and ONNX Runtime, no torch."""
