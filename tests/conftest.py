"""Plugins of the test suite; what needs torch is collected where torch is installed."""

from __future__ import annotations

from importlib.util import find_spec

pytest_plugins = ["onnxtext", "pytester"]

collect_ignore_glob = [] if find_spec("torch") else ["ir/fx/*", "tools/test_programs.py"]
