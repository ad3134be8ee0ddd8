"""A check for `prunec bisect` and `prunec reduce`: fails if the classifier reads fewer than 256 features."""

import sys

import onnx

model = onnx.load(sys.argv[1])
(classifier,) = (tensor for tensor in model.graph.initializer if tensor.name == "classifier.weight")
sys.exit(classifier.dims[1] < 256)
