"""Models side by side in ONNX Runtime: how fast, how much memory, and why fewer operations are not less time."""
