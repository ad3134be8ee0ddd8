"""What the tool asks of the dialect that a module is written in: who infers its shapes, and who runs it.

Passes never ask which dialect a module has. Rules of ops need no dialect either (see :mod:`prunec.ir.form`);
what differs is who executes a graph, what may be removed from it, and what "valid" means. All of that is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir

    from prunec.ir.facts import Facts
    from prunec.ir.module import Module

Array = NDArray[Any]
Blame = Literal["user", "pass"]

LossGradients = Callable[[Mapping[str, Array], Array], dict[str, Array]]
"""From feeds and labels to the gradient for every input of floating-point numbers."""

ATEN = "aten"
"""The domain of a captured ``torch`` program."""

TO_ONNX = (
    "to ONNX, in Python: torch.onnx.export(result.to_torch().eval(), inputs, 'net.onnx', dynamo=True)",
    "to ONNX, of a .pt2 file: torch.onnx.export(torch.export.load('net.pt2'), (), 'net.onnx', dynamo=True)",
)
"""How a program of torch becomes an ONNX model, as messages say it."""

TIED = "prunec.tied"
"""Key in ``Value.meta``: all that read this constant must go on reading one tensor (it is trained)."""


class Executor(Protocol):
    """A module that is ready to run."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs, by name, from an array for every graph input."""


class Dialect(Protocol):
    """How modules of one dialect are looked at, run and checked.

    Attributes:
        suffix: how the names of its files end.
        literal_sizes: nodes hold static sizes as literals, so that no arithmetic on shapes can go stale.
        trains: parameters have gradients.
    """

    suffix: str
    literal_sizes: bool
    trains: bool

    def facts(self, model: onnx_ir.Model) -> Facts:
        """Shapes and known numbers of the main graph."""

    def executor(
        self,
        module: Module,
        *,
        outputs: Iterable[str] | None = None,
        blame: Blame = "pass",
        optimize: bool = False,
    ) -> Executor:
        """A module ready to run; ``outputs`` may name any computed values, None means the graph's outputs.

        Args:
            module: the module.
            outputs: see above.
            blame: whose mistake it is where it cannot run.
            optimize: run it as fast as the runtime can, and not as it is written.

        Raises:
            UserError: it cannot run, with ``blame="user"``.
            PassFailure: it cannot run, with ``blame="pass"``.
        """

    def feeds(
        self, module: Module, *, seed: int = 0, sizes: Mapping[str, int] | None = None
    ) -> dict[str, Array]:
        """Inputs that the module can run on; the same arguments always give the same arrays."""

    def own_feeds(self, module: Module, *, sizes: Mapping[str, int] | None = None) -> dict[str, Array] | None:
        """The inputs that the module came with, at other sizes where some are given; None where it came with none."""

    def draws(self, module: Module) -> bool:
        """Whether a module draws random numbers where it runs; executors draw them alike, unless optimised."""

    def runs_on_examples(self, module: Module) -> bool | None:
        """Whether a module runs on the inputs that it came with; None where it came with none."""

    def graph_error(self, module: Module) -> str | None:
        """What the dialect's own checker has against a graph, None where it accepts it."""

    def train_error(self, module: Module, feeds: Mapping[str, Array]) -> str | None:
        """What keeps a module from being trained (a parameter without a finite gradient of its shape), None
        where nothing does or where modules of this dialect are not trained.
        """

    def loss_gradients(self, module: Module) -> LossGradients:
        """How the cross-entropy of the first output changes with the inputs.

        Raises:
            UserError: modules of this dialect have no gradients.
        """

    def begin(self, model: onnx_ir.Model) -> None:
        """Note what has to be noted of a model before passes run on it."""

    def adopt(self, value: onnx_ir.Value, like: onnx_ir.Value) -> None:
        """Let a constant that a pass made be what another is: one that is trained, or not."""

    def remove_unused_nodes(self, model: onnx_ir.Model) -> None:
        """Remove the nodes that nothing reads and that change nothing."""


def dialect_of(model: onnx_ir.Model) -> Dialect:
    """The dialect that a model is written in."""
    if ATEN in model.graph.opset_imports:
        from prunec.ir.fx.dialect import AtenDialect

        return AtenDialect()
    from prunec.ir.onnx_dialect import OnnxDialect

    return OnnxDialect()
