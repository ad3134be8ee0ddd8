"""Quantisation: 8-bit models by ONNX Runtime's quantizer, and what pruning and quantising cost together."""
