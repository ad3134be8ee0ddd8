"""Plugins of the test suite; what needs torch is collected where torch is installed."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hypothesis import settings

# A build is judged by the same examples every time; at home every run looks for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

pytest_plugins = ["onnxtext", "pytester"]

NEED_TORCH = ["ir/fx/*", "tools/test_programs.py", "test_finetune_digits.py", "test_callbacks.py"]
collect_ignore_glob = [] if find_spec("torch") else NEED_TORCH
