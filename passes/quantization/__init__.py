"""Quantisation: 8-bit models by ONNX Runtime's quantizer."""
