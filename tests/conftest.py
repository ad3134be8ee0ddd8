"""Plugins of the test suite; what needs torch is collected where torch is installed."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hypothesis import HealthCheck, settings

# A build is judged by the same examples every time; at home every run looks for new ones.
# How fast examples are made says how busy the machine is, not whether a property holds.
unhurried = settings(suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("home", unhurried)
settings.register_profile("ci", unhurried, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")

pytest_plugins = ["onnxtext", "pytester"]

NEED_TORCH = [
    "benchmarks/test_torch_oracle.py",
    "ir/fx/*",
    "tools/test_programs.py",
    "test_finetune_digits.py",
    "test_snippets.py",
]
collect_ignore_glob = [] if find_spec("torch") else NEED_TORCH
