"""Engines of TensorRT and TensorRT-RTX, with a ledger that says which layers run on sparse kernels."""
