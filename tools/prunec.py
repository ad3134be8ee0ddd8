"""The command ``prunec``: which subcommand is meant, and what the process says and returns.

====  ==========================================================
exit  meaning
====  ==========================================================
0     done
1     a pass failed, or the verifier proved a transform wrong
2     the user's mistake: input, pipeline text or command line
3     a threshold that the user set does not hold
70    a bug of prunec
129   the terminal went away
130   interrupted
141   the reader of the output went away
143   terminated
====  ==========================================================

Nothing heavy is imported here: ``prunec --help`` and every mistake in a pipeline answer at once.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import prunec
from prunec.ir.diagnostics import PrunecError, RemarkWarning, nearest

DEFAULT_COMMAND = "compile"
BUG_EXIT_CODE = 70
INTERRUPT_EXIT_CODE = 130
PIPE_EXIT_CODE = 141
SIGNAL_EXIT_CODE = 128
"""What the number of a signal is added to."""

COMPLETION_VARIABLE = "_PRUNEC_COMPLETE"
"""Set by a shell that asks how a word may go on; click answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyCommand:
    """A subcommand that is imported when it is used.

    Attributes:
        target: ``module:function``.
        summary: its line in the list of commands.
    """

    target: str
    summary: str


COMMANDS: Mapping[str, LazyCommand] = {
    "compile": LazyCommand(
        target="prunec.tools.compile:compile_model", summary="Run a pipeline on a model (the default)."
    ),
    "bench": LazyCommand(
        target="prunec.tools.bench:bench_models", summary="Measure models side by side, and say why."
    ),
    "bisect": LazyCommand(
        target="prunec.tools.bisect:bisect_model", summary="Find the first transform that breaks a check."
    ),
    "diff": LazyCommand(
        target="prunec.tools.diff:diff_models", summary="Show what is different between two models."
    ),
    "eval": LazyCommand(
        target="prunec.tools.evaluate:evaluate_models", summary="Measure models on samples, slice by slice."
    ),
    "inspect": LazyCommand(
        target="prunec.tools.inspect:inspect_model", summary="Show a model, its channel groups and its cost."
    ),
    "reduce": LazyCommand(
        target="prunec.tools.reduce:reduce_model", summary="Shrink a model to the least that still fails."
    ),
    "sensitivity": LazyCommand(
        target="prunec.tools.sensitivity:measure_sensitivity",
        summary="Measure what a metric loses when channels of one layer go, layer by layer.",
    ),
    "passes": LazyCommand(
        target="prunec.tools.passes:list_passes", summary="List the passes, or explain one."
    ),
    "targets": LazyCommand(
        target="prunec.tools.targets:list_targets", summary="List what --emit can write, or explain one."
    ),
}

EXAMPLES = """\
\b
Examples:
  prunec net.onnx -p 'fold-norm, prune-channels{ratio=40%}' -o small.onnx
  prunec net.onnx -p passes.txt --plan plan.json
  prunec net.onnx -p passes.txt --emit 'trt{precision=fp16}' -o net.engine
  prunec passes prune-channels
"""


class PrunecGroup(click.Group):
    """Subcommands by name; anything else is the model of the default command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Names of all subcommands."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        cmd_name: str,
    ) -> click.Command | None:
        """Import a subcommand; every one of them takes ``--debug``."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        if not any(parameter.name == "debug" for parameter in command.params):
            command.params.append(_debug_option())
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of arguments that name none; without arguments, show the help."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        position = next((i for i, word in enumerate(args) if word != "--debug"), len(args))
        if position < len(args):
            word = args[position]
            if word not in COMMANDS and word not in (*ctx.help_option_names, "--version"):
                _refuse_misspelt_command(ctx, word)
                args = [*args[:position], DEFAULT_COMMAND, *args[position:]]
        return super().parse_args(ctx, args)

    def format_usage(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        formatter: click.HelpFormatter,
    ) -> None:
        """Both ways of use."""
        formatter.write_usage("prunec", "MODEL -p PASSES [-o OUT] [OPTIONS]")
        formatter.write_usage("prunec", "COMMAND [ARGUMENTS]", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, the options of the default command, and those of ``prunec`` itself."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])
        default = self.get_command(ctx, DEFAULT_COMMAND)
        options = [p for p in (default.params if default else []) if isinstance(p, click.Option)]
        records = [r for p in (*options, *self.get_params(ctx)) if (r := p.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(list(dict.fromkeys(records)))


def _debug_option() -> click.Option:
    return click.Option(["--debug"], is_flag=True, expose_value=False, help="Show tracebacks.")


def _refuse_misspelt_command(ctx: click.Context, word: str) -> None:
    """Tell a misspelt command from a model; a model is a file, or has at least the name of one."""
    likely = nearest(word, COMMANDS)
    if likely and not word.startswith("-") and not set("./\\") & set(word) and not Path(word).exists():
        raise click.UsageError(f"no such command '{word}' (did you mean '{likely}'?)", ctx)


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"prunec {prunec.__version__}")
        ctx.exit()


@click.group(
    cls=PrunecGroup,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version.",
        ),
        _debug_option(),
    ],
)
def cli() -> None:
    """Prune neural networks with verified passes.

    A model goes through a pipeline of passes, every change is checked by running the model before and after
    it, and what comes out is an ONNX file.
    """


class Terminated(BaseException):
    """The process was asked to end; what was begun is left behind in order first.

    Attributes:
        signal: number of the signal that asked.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"signal {signal}")
        self.signal = signal


def _terminate(signal: int, _frame: object) -> None:
    raise Terminated(signal)


def run(arguments: Sequence[str]) -> int:
    """Run ``prunec`` and return its exit code; every message is on stderr by then."""
    debug = "--debug" in arguments
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RemarkWarning)  # a compile shows its remarks itself
            return _invoke(arguments)
    except click.exceptions.Exit as error:
        return error.exit_code
    except PrunecError as error:
        return _failed(error.render(), error.exit_code, debug=debug)
    except click.ClickException as error:
        return _failed(_render_click_error(error), 2, debug=False)
    except Terminated as error:
        return _failed("error: terminated", SIGNAL_EXIT_CODE + error.signal, debug=debug)
    except (click.Abort, KeyboardInterrupt):
        return _failed("error: interrupted", INTERRUPT_EXIT_CODE, debug=debug)
    except BrokenPipeError:
        _drop_output()
        return PIPE_EXIT_CODE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _bug(error, debug=debug)
        _drop_output()
        return _failed(f"error: cannot write the output: {os.strerror(error.errno).lower()}", 2, debug=debug)
    except Exception as error:  # noqa: BLE001  (the last resort: whatever gets here is a bug of ours)
        return _bug(error, debug=debug)


def main() -> None:
    """Entry point of the console script; a stream that the caller closed is as good as none."""
    for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:  # Windows has no SIGHUP
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _terminate)
    gc.set_threshold(
        50_000, 20, 50
    )  # graphs are many small objects that stay: a tenth of the time of `inspect`
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stdout or nowhere
        sys.stderr = sys.stderr or nowhere
        sys.exit(run(sys.argv[1:]))


def _invoke(arguments: Sequence[str]) -> int:
    """Run the command line; unlike ``cli.main``, this leaves every error to us."""
    if COMPLETION_VARIABLE in os.environ:
        cli.main(args=list(arguments), prog_name="prunec")
    with cli.make_context("prunec", list(arguments)) as context:
        cli.invoke(context)
    sys.stdout.flush()
    return 0


def _drop_output() -> None:
    """Send what is still buffered nowhere: the flush at exit must not complain about it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(error: Exception, *, debug: bool) -> int:
    detail = (str(error).splitlines() or [""])[0]
    message = f"error: internal error: {type(error).__name__}: {detail}; please report"
    notes = [f"  = help: {note}" for note in getattr(error, "__notes__", ())]
    return _failed("\n".join([message, *notes]), BUG_EXIT_CODE, debug=debug)


def _failed(message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(message, err=True)
    return code


def _render_click_error(error: click.ClickException) -> str:
    """A mistake on the command line in the form of all other errors."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.info_name if context is not None and context.parent is not None else None
    name = f"prunec {command}" if command not in (None, DEFAULT_COMMAND) else "prunec"
    return f"error: {message[:1].lower()}{message[1:]}\n  = help: {name} --help"
