"""Sessions of ONNX Runtime as production has them, what opening one takes, and runs that end in time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from prunec.exporters.bench.candidates import LEAVE_OUT, Candidate, Feeds
from prunec.ir.diagnostics import Place, UserError, nearest
from prunec.ir.runtime import clean_message, runtime_errors, session_options

CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How sessions are made.

    Attributes:
        threads: for one op; 0 lets ONNX Runtime choose.
        providers: in order of preference.
        timeout: seconds that the first run of a model may take.
    """

    threads: int
    providers: tuple[str, ...]
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session.

    Attributes:
        name: of its model, for messages.
        session: the ``onnxruntime.InferenceSession``.
        seconds: that it took to make it.
    """

    name: str
    session: Any
    seconds: float

    def call(self, feeds: Iterable[Feeds]) -> Callable[[], object]:
        """A call that runs the session once, on one feed after the other."""
        turns, run = itertools.cycle(feeds), self.session.run
        return lambda: run(None, next(turns))

    def first_run(self, feeds: Feeds, batch: int, timeout: float) -> float:
        """Run once, with an end; the seconds that it took.

        Raises:
            UserError: the model does not run, or not in time.
        """
        import onnxruntime as ort

        options = ort.RunOptions()
        options.log_severity_level = 4
        failures: tuple[type[Exception], ...] = (ValueError, *runtime_errors())
        timer = threading.Timer(timeout, lambda: setattr(options, "terminate", True))
        timer.start()
        started = perf_counter()
        try:
            self.session.run(None, dict(feeds), options)
        except failures as error:
            if options.terminate:
                raise self._too_long(batch, timeout) from error
            message = f"the model fails when it runs at batch {batch}: {clean_message(str(error))}"
            help = ["give real inputs with --data, or sizes with --size NAME=N, if random ones are to blame"]
            raise UserError(message, place=Place(file=self.name), help=help) from error
        except MemoryError as error:
            message = f"one run at batch {batch} needs more memory than there is"
            raise UserError(message, place=Place(file=self.name), help=[LEAVE_OUT]) from error
        finally:
            timer.cancel()
        taken = perf_counter() - started
        if taken > timeout:  # it ended before anybody looked at the clock
            raise self._too_long(batch, timeout)
        return taken

    def _too_long(self, batch: int, timeout: float) -> UserError:
        message = f"one run at batch {batch} did not end within {timeout:g} s"
        help = [f"allow more with --timeout, or {LEAVE_OUT}"]
        return UserError(message, place=Place(file=self.name), help=help)


def check_providers(wanted: Sequence[str]) -> tuple[str, ...]:
    """Providers by their full names; ``CPU`` and ``cuda`` will do.

    Raises:
        UserError: ONNX Runtime as installed here lacks one.
    """
    import onnxruntime as ort

    available = {
        name.removesuffix("ExecutionProvider").lower(): name for name in ort.get_available_providers()
    }
    found = []
    for name in wanted:
        short = name.removesuffix("ExecutionProvider").lower()
        if short not in available:
            close = nearest(short, available)
            raise UserError(
                f"onnxruntime {ort.__version__} as installed here has no provider '{name}'",
                notes=[f"it has: {', '.join(available.values())}"],
                help=[f"did you mean '{available[close]}'?"] if close else [],
            )
        found.append(available[short])
    return tuple(found) or (CPU,)


def open_session(candidate: Candidate, setting: Setting, options: Any = None) -> Opened:
    """Make a session of a model's file, as an application would, and time that.

    Args:
        candidate: the model.
        setting: threads and providers.
        options: session options to use instead of those of ``setting.threads``.

    Raises:
        UserError: ONNX Runtime refuses the model, or leaves out the first provider.
    """
    import onnxruntime as ort

    options = options or session_options(optimize=True, threads=setting.threads)
    started = perf_counter()
    try:
        session = ort.InferenceSession(str(candidate.file), options, providers=list(setting.providers))
    except runtime_errors() as error:
        message = f"ONNX Runtime refuses the model: {clean_message(str(error))}"
        raise UserError(message, place=Place(file=candidate.name)) from error
    seconds = perf_counter() - started
    if setting.providers[0] not in session.get_providers():
        message = f"ONNX Runtime could not load {setting.providers[0]} and left it out"
        raise UserError(
            message, place=Place(file=candidate.name), notes=[f"it has: {session.get_providers()}"]
        )
    return Opened(name=candidate.name, session=session, seconds=seconds)
