"""What a pipeline made of a module: the module itself, what was decided and proven, and ways to hand it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import RemarkLog
from prunec.passes.plan import Plan

if TYPE_CHECKING:
    from prunec import Export
    from prunec.ir.fx.entry import GraphModule, Handed, NnModule, Optimizer
    from prunec.ir.module import Module
    from prunec.passes.analyses import Analyses
    from prunec.passes.cost import Cost
    from prunec.passes.verifier import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall-clock seconds of one pass.

    Attributes:
        pass_name: the pass.
        seconds: of the pass itself, with the analyses that it asked for.
        verify_seconds: of its verification.
        analyses: the part of both that went into analyses, by name.
    """

    pass_name: str
    seconds: float
    verify_seconds: float
    analyses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a pipeline made of a module.

    Attributes:
        module: the transformed module.
        plan: what was removed, replayable.
        remarks: what passes did, did not do, and why.
        verdicts: what was proven, one for every transform that changed something.
        cost_before: cost of the input.
        timings: seconds, one for every pass.
        statistics: what passes counted, such as ``prune-channels.units``, summed over the run.
        changed: whether any pass changed the module.
        seed: of the run.
        data: name of the calibration data, or None.
    """

    module: Module
    plan: Plan
    remarks: RemarkLog
    verdicts: tuple[Verdict, ...]
    cost_before: Cost
    timings: tuple[Timing, ...]
    changed: bool
    statistics: Mapping[str, int | float] = field(default_factory=dict)
    seed: int = 0
    data: str | None = None
    _analyses: Analyses = field(repr=False, compare=False)
    _handed: list[Handed] = field(default_factory=list, repr=False, compare=False)

    @property
    def cost_after(self) -> Cost:
        """Cost of the output, measured when it is first asked for."""
        return self._analyses.cost()

    def save(self, path: str | Path, *, external_data: bool | None = None) -> None:
        """Write the module; see :func:`prunec.ir.save.save`.

        Raises:
            UserError: as there; or what :meth:`to_torch` gave was trained since, and would not be what is written.
        """
        from prunec.ir.fx.entry import require_untouched
        from prunec.ir.save import save

        require_untouched(self.module, self._handed)
        save(self.module, path, external_data=external_data)

    def to_torch(self) -> GraphModule:
        """The result as a ``torch.fx.GraphModule`` to train, compile and export.

        Its parameters are copies, under the names of the captured module. ``train()`` and ``eval()`` switch
        dropout, batch norms and recurrent layers.

        Raises:
            UserError: the input was no program of torch, or the module's weights changed since it was captured.
        """
        from prunec.ir.fx.entry import remember, to_torch

        module = to_torch(self.module)
        self._handed.append(remember(module))
        return module

    def apply_to(self, module: NnModule) -> None:
        """Cut the module that was captured, in place: parameters, buffers, and the sizes among its attributes.

        That it then computes what :meth:`to_torch` computes is proven by running both. Every attribute that was
        changed is in :attr:`remarks`, with the origin ``apply_to``.

        Args:
            module: the module, which gets the values of the result.

        Raises:
            UserError: the module is another one, its weights changed since the capture, or its code holds sizes
                that no attribute changes (the message names the line); nothing is changed.
        """
        from prunec.ir.fx.entry import write_back

        for resized in write_back(self.module, module):
            self.remarks.passed("apply_to", str(resized), node=resized.path)

    def apply_to_optimizer(self, optimizer: Optimizer, module: NnModule) -> None:
        """Cut the state of an optimizer along with the module that :meth:`apply_to` has cut.

        Args:
            optimizer: holds the parameters of the module; every state tensor goes along whose axes are those of
                its parameter, or of size 1 (all of ``torch.optim`` but LBFGS).
            module: the module.

        Raises:
            UserError: a state tensor has another shape, channels were reordered, or the optimizer trains
                another module; nothing is changed.
        """
        from prunec.ir.fx.entry import cut_optimizer

        self.plan.require_no_orders()
        cut_optimizer(self.module, self.plan.removed(), optimizer, module)

    def export(self, target: str, path: str | Path, **options: Any) -> Export:
        """Write the module for a runtime; see :func:`prunec.export`.

        Args:
            target: ``onnx``, ``ort``, ``trt``, or another installed target.
            path: the artefact's file.
            **options: of the target and of :func:`prunec.export`.
        """
        # Passes do not know exporters; the package's public face knows both.
        import prunec

        return prunec.export(self, target, path, **options)

    def report(self, path: str | Path, **evidence: Any) -> None:
        """Write what was done as a page; see :func:`prunec.write_report`.

        Args:
            path: the page.
            **evidence: ``output``, ``evaluation``, ``profile``, ``bench``, ``quantization``.
        """
        import prunec

        prunec.write_report(self, path, **evidence)

    def card(self, path: str | Path, **evidence: Any) -> None:
        """Write a model card; see :func:`prunec.write_card`.

        Args:
            path: the card.
            **evidence: ``fields``, and as for :meth:`report`.
        """
        import prunec

        prunec.write_card(self, path, **evidence)
