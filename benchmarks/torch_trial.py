"""One architecture of the torch benchmark in this process: prunec, or Torch-Pruning without or with hints."""

from __future__ import annotations

import copy
import gc
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

import torch_oracle
from torch_models import Architecture, randomise, settle

PASSES = "prune-channels{ratio=50% round-to=1 unit=head-dim}"
ONNX_TOLERANCE = 1e-3

Row = dict[str, Any]


class Trial:
    """Prunes one architecture and judges the result; ``row`` says how far it came.

    Args:
        architecture: what to prune.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.row: Row = {}

    def build(self) -> None:
        """Make the network, with weights of which no two are equal."""
        torch.manual_seed(0)
        np.random.seed(0)
        self.module, self.args, self.kwargs = self.architecture.build()
        randomise(self.module)
        settle(self.module, self._run)
        self.dense = copy.deepcopy(self.module)
        self.untouched = copy.deepcopy(
            self.module
        )  # some modules keep tensors of a run, which cannot be copied
        self.row["parameters"] = _count(self.module)
        gc.collect()
        gc.freeze()  # what was loaded before is neither tool's to collect

    def judge(self, pruned: nn.Module) -> None:
        """Run, compare with the oracle, and train one step.

        Raises:
            Exception: whatever fails; the row says how far it came.
        """
        self.row["kept"] = _count(pruned) / self.row["parameters"]
        with torch.no_grad():
            made = self._run(pruned)
        self.row["forward"] = True
        self._backward(pruned)
        before, after = _tensors(self.dense), _tensors(pruned)
        kept = torch_oracle.kept_slices(before, after)
        self.row["cut"] = len(kept)
        if not kept:
            return
        with torch.no_grad():
            wanted, whole = self._run(torch_oracle.mask(self.untouched, kept)), self._run(self.dense)
        found = torch_oracle.compare(made, wanted, whole, kept)
        self.row |= {"error": found.error, "change": found.change, "exact": found.exact}

    def _run(self, module: nn.Module) -> Any:
        torch.manual_seed(0)
        args, kwargs = copy.deepcopy((self.args, self.kwargs))
        return module(*args, **kwargs)

    def _backward(self, pruned: nn.Module) -> None:
        """Every parameter that had a gradient has a finite one of its own shape."""
        trained = {}
        for kind, module in (("dense", self.dense), ("pruned", pruned)):
            for parameter in module.parameters():
                parameter.requires_grad_(True)
            leaves = pytree.tree_leaves(self._run(module))
            floats = [t for t in leaves if isinstance(t, torch.Tensor) and t.requires_grad and t.numel()]
            if not floats:
                return
            sum((t.float() ** 2).mean() for t in floats).backward()
            trained[kind] = {n: p for n, p in module.named_parameters() if p.grad is not None}
        named = dict(pruned.named_parameters())
        missing = [n for n in trained["dense"] if n in named and n not in trained["pruned"]]
        bad = [
            n for n, p in trained["pruned"].items() if p.grad.shape != p.shape or not p.grad.isfinite().all()
        ]
        for module in (self.dense, pruned):
            module.zero_grad(set_to_none=True)
        self.row["backward"] = not missing and not bad
        if missing or bad:
            self.row["backward_error"] = f"no gradient: {missing[:3]}, bad gradient: {bad[:3]}"

    # -- ours -------------------------------------------------------------

    def ours(self, *, export: bool, verify: bool) -> None:
        """Capture, prune, judge, export to ONNX."""
        import prunec

        started = process_time()
        captured = prunec.trace(self.module, self.args, self.kwargs)
        self.row |= {"captured": True, "capture_seconds": process_time() - started}
        started = process_time()
        result = prunec.run(captured, PASSES, verify=False)
        self.row["seconds"] = process_time() - started
        started = process_time()
        pruned = result.to_torch().eval()
        self.row["lower_seconds"] = process_time() - started
        self.judge(pruned)
        if verify:
            started = process_time()
            verdicts = prunec.run(captured, PASSES).verdicts
            self.row["verify_seconds"] = process_time() - started
            self.row["verified"] = str(verdicts[0]) if verdicts else "nothing to verify"
        if export:
            self._export_as_before(pruned)

    def _export_as_before(self, pruned: nn.Module) -> None:
        """Export the result; where that fails, only a module that exported before the cut speaks against it."""
        if (failed := self._failed_export(pruned)) is None:
            return
        if (before := self._failed_export(self.untouched)) is not None:
            self.row |= {"onnx": None, "onnx_before": f"{type(before).__name__}: {before}"[:200]}
            return
        self.row["onnx"] = False
        raise failed

    def _failed_export(self, module: nn.Module) -> Exception | None:
        """What went wrong, as the exporter writes it and then with the exporter's own clean-up, which mends some."""
        failed = None
        for optimize in (False, True):
            try:
                self._export(module, optimize=optimize)
            except Exception as error:  # noqa: BLE001  (torch and the runtime raise what they like)
                failed = error
            else:
                return None
        return failed

    def _export(self, module: nn.Module, *, optimize: bool) -> None:
        import onnxruntime

        started = process_time()
        with torch.no_grad():
            wanted = [t for t in pytree.tree_leaves(self._run(module)) if isinstance(t, torch.Tensor)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            torch.onnx.export(
                module, self.args, path, kwargs=self.kwargs, dynamo=True, verbose=False, optimize=optimize
            )
            self.row["onnx_seconds"] = process_time() - started
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            given = [t for t in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(t, torch.Tensor)]
            feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), given, strict=False)}
            made = session.run(None, feeds)
        error = max(
            float(np.abs(n - w.numpy()).max() / max(np.abs(w.numpy()).max(), 1e-30))
            for n, w in zip(made, wanted, strict=False)
            if w.is_floating_point() and w.numel()
        )
        self.row |= {"onnx_error": error, "onnx": error < ONNX_TOLERANCE}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    named = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    return {name: tensor.detach() for name, tensor in named.items()}
