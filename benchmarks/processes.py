"""Runs a command as a process of its own and says what it cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import IO

PRUNEC = (sys.executable, "-c", "from prunec.tools.prunec import main; main()")
"""Starts ``prunec`` as its console script does, with this Python."""
WATCH_SECONDS = 0.05
"""How often the memory of a process is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A process that ended.

    Attributes:
        code: its exit code, negative for a signal.
        output: what it wrote to stdout.
        errors: what it wrote to stderr.
        wall_seconds: from start to end.
        cpu_seconds: user and system time of all its threads.
        peak_bytes: largest resident set.
        timed_out: whether it was stopped for running too long.
        out_of_memory: whether it was stopped for taking too much memory.
    """

    code: int
    output: str
    errors: str
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    timed_out: bool
    out_of_memory: bool

    @property
    def last_words(self) -> str:
        """The line of stderr that says what went wrong."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return next((line for line in lines if line.startswith("error")), lines[-1] if lines else "")


def run(
    command: Sequence[str],
    *,
    seconds: float,
    gibibytes: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a command to its end.

    The peak of a process counts what its parent held when it was started (Linux keeps the mark across
    exec), so benchmarks that measure memory import nothing heavy themselves.

    Args:
        command: program and arguments.
        seconds: wall-clock time after which it is killed.
        gibibytes: resident memory at which it is killed, None for any. (A limit of the address space would
            count mapped files and unused thread stacks.)
        environment: variables to add to this process' own.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, **(environment or {})},
        )
        watch = _Watch(process, seconds, gibibytes)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - started
        watch.ended.set()
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        return Finished(
            code=process.returncode,
            output=_content(output),
            errors=_content(errors),
            wall_seconds=wall,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=usage.ru_maxrss * 1024,
            timed_out=watch.stopped_for == "time",
            out_of_memory=watch.stopped_for == "memory",
        )


class _Watch(threading.Thread):
    """Kills a process at a limit, and says at which."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float, gibibytes: float | None) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.deadline = perf_counter() + seconds
        self.most = None if gibibytes is None else gibibytes * 2**30
        self.ended = threading.Event()
        self.stopped_for = ""

    def run(self) -> None:
        """Look at the process until it ends."""
        while not self.ended.wait(min(WATCH_SECONDS, max(0.0, self.deadline - perf_counter()))):
            if perf_counter() >= self.deadline:
                self.stopped_for = "time"
            elif self.most is not None and _resident_bytes(self.process.pid) > self.most:
                self.stopped_for = "memory"
            if self.stopped_for:
                self.process.kill()
                return


def _resident_bytes(process: int) -> int:
    """Resident memory of a process, 0 where it has just ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _content(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")
