"""A check for `prunec bisect` and `prunec reduce`: fails if a model knows fewer than 95 % of the digits.

python examples/check_accuracy.py MODEL
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
with np.load(Path(__file__).with_name("digits.npz")) as data:
    (scores,) = session.run(None, {"image": data["image"]})
    accuracy = (scores.argmax(axis=1) == data["label"]).mean()
print(f"accuracy {accuracy:.1%}")
sys.exit(bool(accuracy < 0.95))
