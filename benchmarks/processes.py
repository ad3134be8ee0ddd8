"""Runs a command as a process of its own and says what it cost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import IO

PRUNEC = (sys.executable, "-c", "from prunec.tools.prunec import main; main()")
"""Starts ``prunec`` as its console script does, with this Python."""


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
    """

    code: int
    output: str
    errors: str
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    timed_out: bool

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
        gibibytes: address space that it may use, None for any.
        environment: variables to add to this process' own.
    """

    def limit() -> None:
        if gibibytes is not None:
            size = int(gibibytes * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (size, size))

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            preexec_fn=limit,
        )
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - started
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        return Finished(
            code=process.returncode,
            output=_content(output),
            errors=_content(errors),
            wall_seconds=wall,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=usage.ru_maxrss * 1024,
            timed_out=stopped.is_set(),
        )


def _content(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")
