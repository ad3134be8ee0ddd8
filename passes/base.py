"""What a pass is.

A pass is a frozen dataclass: its fields are its options, and they alone give the parser, the help text, the
docs page
and the canonical printed form. A minimal pass::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class DropDocs(Pass):
        '''Remove every doc string.'''

        name: ClassVar[str] = "drop-docs"
        keep: str = option("", help="glob of node names to leave alone")

        def run(self, module: Module, context: Context) -> Outcome:
            ...
            return Outcome(changed=True)

A pass keeps no state between runs and no global state; all it may use is what ``run`` receives. Modules that
define passes import neither onnx nor onnx_ir at import time, so that ``prunec passes`` and pipeline errors
answer at once: heavy imports go inside ``run``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prunec.ir.diagnostics import RemarkLog

if TYPE_CHECKING:
    import onnx_ir

    from prunec.ir.module import Module
    from prunec.passes.analyses import Analyses
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.coupling.options import CouplingOptions
    from prunec.passes.plan import Step
    from prunec.passes.pruning.gradients import Gradients
    from prunec.passes.uncut import Slots, Uncut

Contract = Literal["same", "masked", "sparse", "repaired", "quantised", "none"]


@dataclass(slots=True, kw_only=True)
class Context:
    """What a pass may use besides the module.

    Attributes:
        analyses: cached analyses of the module (see ``prunec.passes.analyses``).
        remarks: where the pass says what it did and did not do.
        seed: for anything random; the same seed gives the same output.
        replay: the step of an earlier plan that this pass must repeat, or None.
        data: calibration data, or None; there for every pass that says that it ``needs_data``.
        original: the model that the pipeline began with; it is not to be changed.
        gradients: of the weights as they are now, or None; there for every pass that ``needs_gradients``.
        earlier: steps made before, from whose beginning shares of units count.
        uncut: the model before its channels were cut, for a pass that says that it ``needs_uncut``; None where
            nothing was cut.
    """

    analyses: Analyses
    remarks: RemarkLog
    seed: int = 0
    replay: Step | None = None
    data: CalibrationData | None = None
    original: Module | None = None
    gradients: Gradients | None = None
    earlier: tuple[Step, ...] = ()
    uncut: Uncut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a pass reports back to the manager.

    Attributes:
        changed: whether the module differs from before; False keeps every cached analysis and skips
            verification.
        preserved: names of analyses that are still true although the module changed.
        step: what was removed, for the plan and the verifier (passes with the contract ``masked`` or
            ``sparse`` only).
        predicted: concrete shape that every value must have now, by name (pruning passes only).
        copies: tensors that had to be un-shared: name of the copy, name of the original.
        options: of the dependency analysis that the pass used (pruning passes only).
        kept: per value that lost slots those that are left (pruning passes only).
        repaired: per tensor that has new numbers, by name, those with which the model computes what it did
            (passes with the contract ``repaired`` only).
        statistics: counters for ``--stats``.
    """

    changed: bool
    preserved: frozenset[str] = frozenset()
    step: Step | None = None
    predicted: Mapping[str, tuple[int, ...]] | None = None
    copies: Mapping[str, str] = field(default_factory=dict)
    options: CouplingOptions | None = None
    kept: Slots | None = None
    repaired: Mapping[str, onnx_ir.TensorProtocol] = field(default_factory=dict)
    statistics: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass(ABC):
    """Base class of all passes.

    Class attributes:
        name: the name in pipeline text, verb-object, kebab-case.
        contract: what the verifier proves about the output: ``same`` (computes what its input computed),
            ``masked`` (equals its input with the removed slices set to zero), ``sparse`` (differs from its
            input in the masked weights alone, which have the claimed pattern), ``repaired`` (gives new numbers
            to the tensors that it names, and changes nothing else), ``quantised`` (its weights are within one step
            of what they were; outputs are finite, and their change is measured) or ``none`` (changes nothing, or
            on purpose).
        planned: whether what the pass decides is a step of the plan, which a replay repeats.
        needs_uncut: whether the pass looks at the model as it was before channels were cut.
        takes_body: whether the pass runs other passes, written in parentheses behind it; the class then has a
            field ``body: Pipeline``, which is no option, and overrides ``expand``.
        onnx_only: whether the pass takes ONNX models alone; on programs of torch it is refused before anything runs.
        rescales: whether the pass gives weights that stay other values, so that gradients taken before it are
            not those of the weights after it.
        noun: what messages call it.
    """

    name: ClassVar[str]
    noun: ClassVar[str] = "pass"
    contract: ClassVar[Contract] = "same"
    planned: ClassVar[bool] = False
    needs_uncut: ClassVar[bool] = False
    takes_body: ClassVar[bool] = False
    onnx_only: ClassVar[bool] = False
    rescales: ClassVar[bool] = False

    @abstractmethod
    def run(self, module: Module, context: Context) -> Outcome:
        """Transform ``module`` in place and say what happened."""

    @property
    def needs_data(self) -> bool:
        """Whether the pass, with its options as they are, runs the model on calibration data."""
        return False

    @property
    def fits_data(self) -> bool:
        """Whether it fits the model to them, so that some samples have to be held out to judge the result by."""
        return self.needs_data

    def check(self, module: Module, data: CalibrationData | None) -> None:
        """See, before any pass runs, that what this one reads besides the module is there and fits.

        Args:
            module: the model that the pipeline begins with.
            data: calibration data, or None.

        Raises:
            UserError: it is not, or does not.
        """
        del module, data

    @property
    def coupling_options(self) -> CouplingOptions | None:
        """How the pass, with its options as they are, looks at the coupling; None where it does not, or in any way."""
        return None

    @property
    def needs_gradients(self) -> bool:
        """Whether the pass, with its options as they are, judges weights by their gradients."""
        return False

    def expand(self) -> tuple[Pass, ...]:
        """The passes that run in the place of this one: itself, but for a pass that takes a body."""
        return (self,)

    def __str__(self) -> str:
        """The canonical pipeline text of this pass."""
        from prunec.passes.pipeline import format_pass

        return format_pass(self)

    def as_onnx_ir(self) -> onnx_ir.passes.InPlacePass:
        """This pass as an ``onnx_ir`` pass, for pipelines of other tools."""
        from prunec.passes.interop import OnnxIrPass

        return OnnxIrPass(self)


def option(
    default: Any,
    *,
    help: str,
    check: Callable[[Any], str | None] | None = None,
    metavar: str | None = None,
) -> Any:
    """A pass option: a dataclass field with help text and, where the type says too little, a check.

    Args:
        default: value when the option is not given (``dataclasses.MISSING``: it must be given); the type
            annotation of the field drives parsing.
        help: one line for people, lower-case, without a final period.
        check: returns what is wrong with a value (``"must be in [0, 1), got 1.5"``) or None.
        metavar: what help shows as the value, where the type's own name is not clear enough.
    """
    import dataclasses

    return dataclasses.field(default=default, metadata={"help": help, "check": check, "metavar": metavar})
