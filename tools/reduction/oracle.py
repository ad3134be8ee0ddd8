"""Does a model still show the failure? Asked of a command, or of a pipeline of prunec itself."""

from __future__ import annotations

import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import prunec
from prunec.ir.diagnostics import PrunecError, UserError

PLACEHOLDER = "{}"
"""Where a command wants the name of the model."""

CRASH = "crash"
"""The sign of a process that went away."""


_CANNOT_RUN = frozenset({126, 127})
"""What a shell exits with where a command is no program or is not found."""


class Oracle(ABC):
    """Tells whether models show the failure, several at a time."""

    @abstractmethod
    def fails(self, models: list[Path]) -> list[bool]:
        """Whether each of these models shows the failure."""

    def close(self) -> None:
        """Let go of processes, if it has any."""
        return


@dataclass(slots=True, kw_only=True)
class CommandOracle(Oracle):
    """A shell command that exits with something else than 0 where the failure is there.

    Attributes:
        command: with ``{}`` where the model's name goes; behind it where there is none.
        match: the failure is only there if the command's output matches this too.
        timeout: seconds after which a command is ended; it then says no.
        jobs: how many run at a time.
    """

    command: str
    match: re.Pattern[str] | None = None
    timeout: float = 300
    jobs: int = 2

    def fails(self, models: list[Path]) -> list[bool]:
        """Run the command for each of them."""
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(self._fails, models))

    def _fails(self, model: Path) -> bool:
        name = shlex.quote(str(model))
        command = self.command.replace(PLACEHOLDER, name)
        if PLACEHOLDER not in self.command:
            command = f"{command} {name}"
        try:
            done = subprocess.run(
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.timeout,
            )
        except subprocess.TimeoutExpired:
            return False
        output = done.stdout.decode(errors="replace")
        if done.returncode in _CANNOT_RUN:
            said = f": {output.strip().splitlines()[-1]}" if output.strip() else ""
            raise UserError(
                f"the shell cannot run the test (exit {done.returncode}){said}", help=[f"it was: {command}"]
            )
        return done.returncode != 0 and (self.match is None or self.match.search(output) is not None)


def pattern_of(match: str | None) -> re.Pattern[str] | None:
    """What ``--match`` means.

    Raises:
        UserError: it is no regular expression.
    """
    try:
        return None if match is None else re.compile(match)
    except re.error as error:
        raise UserError(f"--match is no regular expression: {error}") from error


@dataclass(slots=True, kw_only=True)
class PipelineOracle(Oracle):
    """The failure that a pipeline of prunec meets: an error of the same kind and code.

    Every model is tried in a process of its own making, so that a crash is a failure like others.

    Attributes:
        pipeline: its text.
        seed: of the runs.
        sign: of the failure that is looked for, from :func:`sign_of`.
        jobs: how many run at a time.
    """

    pipeline: str
    seed: int = 0
    sign: str = ""
    jobs: int = 2
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)

    def fails(self, models: list[Path]) -> list[bool]:
        """Compile each of them."""
        return (
            [self.sign_of(model) == self.sign for model in models] if len(models) == 1 else self._all(models)
        )

    def sign_of(self, model: Path) -> str:
        """Kind and code of the error that a model meets; empty where it meets none."""
        pool = self._started()
        try:
            return pool.submit(_sign, str(model), self.pipeline, self.seed).result()
        except BrokenProcessPool:
            self.close()
            return CRASH

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _all(self, models: list[Path]) -> list[bool]:
        pool = self._started()
        futures = [pool.submit(_sign, str(model), self.pipeline, self.seed) for model in models]
        try:
            return [future.result() == self.sign for future in futures]
        except BrokenProcessPool:
            # One of them took the pool with it: find out which, one by one.
            self.close()
            return [self.sign_of(model) == self.sign for model in models]

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn"))
        return self._pool


def _sign(model: str, pipeline: str, seed: int) -> str:
    """Runs in a worker process."""
    try:
        prunec.run(prunec.load(model), pipeline, seed=seed)
    except PrunecError as error:
        return f"{type(error).__name__} {error.code or _words(error.message)}"
    except Exception as error:  # noqa: BLE001  (whatever a broken pass raises is the failure that is looked for)
        return f"{type(error).__name__} {_words(str(error))}"
    return ""


def _words(message: str) -> str:
    """A message without the names and numbers in it, which change as the model shrinks."""
    return re.sub(r"`[^`]*`|'[^']*'|\d+", "", message)
