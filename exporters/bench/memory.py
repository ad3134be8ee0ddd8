"""Peak memory of one model: a process of its own loads it, runs it a few times, and says what it needed.

The process is this file, run as a script; it imports nothing of prunec, so that what is measured is ONNX Runtime and
the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from prunec.exporters.bench.sessions import Setting

RUNS = 3


def physical_memory() -> float:
    """Bytes of memory that this machine has; infinity where the system does not say."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return float("inf")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def process_peak() -> int:
    """The most bytes that this process ever held in memory."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_peak(file: Path, feeds: Mapping[str, Any], setting: Setting) -> tuple[int, int]:
    """Peak resident bytes of a process that runs a model: before it was loaded, and in all.

    Raises:
        subprocess.SubprocessError: the process failed, or did not end in time.
    """
    with tempfile.TemporaryDirectory(prefix="prunec-bench-") as folder:
        arrays = Path(folder) / "feeds.npz"
        np.savez(arrays, **feeds)
        task = {"model": str(file), "feeds": str(arrays), "threads": setting.threads}
        words = json.dumps({**task, "providers": setting.providers})
        command = [sys.executable, "-P", __file__, words]
        limit = (1 + RUNS) * setting.timeout
        done = subprocess.run(command, capture_output=True, check=True, timeout=limit, text=True)
    before, peak = json.loads(done.stdout.splitlines()[-1])
    return before, peak


def _main(task: dict[str, Any]) -> None:
    """Load and run the model, and print the peaks before and after."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = task["threads"]
    with np.load(task["feeds"]) as arrays:
        feeds = dict(arrays)
    before = process_peak()
    session = ort.InferenceSession(task["model"], options, providers=task["providers"])
    for _ in range(RUNS):
        session.run(None, feeds)
    print(json.dumps([before, process_peak()]))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
