"""Functions of the user's that a command line names: ``package.module:function``.

What they raise is the user's mistake and comes back as one: the error, and the line of the user's file.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prunec.ir.diagnostics import PrunecError, UserError, nearest

_PACKAGE = Path(__file__).parent.parent
_NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def names_callable(text: str) -> bool:
    """Whether a text has the form of ``package.module:function``."""
    return _NAMED.fullmatch(text) is not None


def load_callable(text: str) -> Any:
    """What ``package.module:function`` names; modules of the working directory are found, too.

    Raises:
        UserError: there is no such module or no such name in it, or importing it fails.
    """
    module_name, _, path = text.partition(":")
    here = str(Path.cwd())
    sys.path.append(here)  # behind everything installed, which a file of the same name must not replace
    try:
        with user_code(text):
            found: Any = importlib.import_module(module_name)
    except UserError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name in _parents(module_name):
            help = [f"modules are looked for in {here} and among the installed packages"]
            raise UserError(f"{text}: no module named '{error.__cause__.name}'", help=help) from error
        raise
    finally:
        last = len(sys.path) - 1 - sys.path[::-1].index(here)
        del sys.path[last]  # the one from above: the user's own entry stays where it is
    for part in path.split("."):
        if not hasattr(found, part):
            close = nearest(part, vars(found)) if hasattr(found, "__dict__") else None
            help = [f"did you mean '{close}'?"] if close else []
            raise UserError(f"{text}: '{module_name}' has no '{part}'", help=help)
        found = getattr(found, part)
    return found


def _parents(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[: n + 1]) for n in range(len(parts))}


def check_takes(name: str, function: Any, arguments: Sequence[str]) -> None:
    """See that a function of the user's can be called with arguments by position, before anything runs.

    Args:
        name: what messages call it.
        function: that will be called.
        arguments: what they are called in messages.

    Raises:
        UserError: it cannot be called, takes fewer, or demands more.
    """
    if not callable(function):
        raise UserError(f"{name} must be a function, got {type_of(function)}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled functions do not always say what they take
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        call = f"({', '.join(arguments)})"
        help = [f"write def {getattr(function, '__name__', 'function')}{call}"]
        raise UserError(f"{name} cannot be called with {call}: {error}", help=help) from error


def type_of(value: object) -> str:
    """The type of a value with its article: ``an int``, ``a list``."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _is_the_users(file: str) -> bool:
    """Whether code stands neither in prunec nor in another package that is installed."""
    return not ("site-packages" in file or file.startswith("<") or Path(file).is_relative_to(_PACKAGE))


@contextmanager
def user_code(name: str) -> Iterator[None]:
    """Turn what the user's code raises into a :class:`UserError` that names it and the line.

    Args:
        name: what messages call the code.
    """
    try:
        yield
    except PrunecError:
        raise
    except (Exception, SystemExit) as error:  # a metric that exits would end a gate as if it held
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        kind = type(error).__name__
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_the_users(frame.filename)]
        notes = [f"at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}"] if own else []
        raise UserError(f"{name} raises {kind}{': ' if reason else ''}{reason}", notes=notes) from error
