"""Plugins of the test suite."""

from __future__ import annotations

pytest_plugins = ["onnxtext", "pytester"]
