"""Gradients of weights, by name, as they are handed to a run and followed through its cuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import Place, UserError, nearest
from prunec.passes.plan.positions import Positions

if TYPE_CHECKING:
    from prunec.ir.module import Module

Array = NDArray[Any]

_COLLECT = "prunec.torch.gradients(net, loss, batches) collects those of the module that is pruned, by parameter name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """Per weight an array of its shape.

    Attributes:
        arrays: by name; of one batch, or the root mean square over several.
    """

    arrays: Mapping[str, Array]

    @classmethod
    def checked(cls, module: Module, given: Mapping[str, Any]) -> Gradients:
        """Gradients that fit a module; those of tensors that it does not have (it never reads them) are left out.

        Raises:
            UserError: this is no mapping of names to arrays, a shape is wrong, a value is NaN or infinite, or no
                name is one of the module's.
        """
        constants = module.graph.initializers
        place = Place(file=module.source.name)
        _check_names(given, place)
        arrays = {name: _array(name, value, place) for name, value in given.items() if name in constants}
        if not arrays:
            name = next(iter(given), None)
            close = nearest(name, constants) if name else None
            hint = f" (did you mean `{close}`?)" if close else ""
            what = f"the gradients are of `{name}` and others{hint}" if name else "there are no gradients"
            raise UserError(
                f"{what}, the model has no weights of these names",
                place=place,
                help=[_COLLECT],
            )
        for name, array in arrays.items():
            _check(name, array, constants[name], place)
        return cls(arrays=arrays)

    def at(self, positions: Positions) -> Gradients:
        """The same after cuts and reorderings of the weights."""
        return Gradients(arrays={name: _moved(name, array, positions) for name, array in self.arrays.items()})

    def knows(self, value: onnx_ir.Value) -> bool:
        """Whether there is a gradient of a constant."""
        return value.name in self.arrays

    def of(self, value: onnx_ir.Value) -> Array:
        """The gradient of a constant."""
        assert value.name is not None
        return self.arrays[value.name]


def _check_names(given: object, place: Place) -> None:
    what = None
    if not isinstance(given, Mapping):
        what = type_of(given)
    elif strange := [key for key in given if not isinstance(key, str)]:
        what = f"a key that is {type_of(strange[0])}"
    if what is not None:
        raise UserError(
            f"the gradients must be arrays by the names of parameters, got {what}",
            place=place,
            help=[_COLLECT],
        )


def _array(name: str, value: Any, place: Place) -> Array:
    """A gradient as an array; a tensor is as good as one as far as NumPy reads it."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"the gradient of `{name}` is {type_of(value)} that is no array: {reason}",
            place=place,
            help=["gradient.detach().float().cpu().numpy() makes one of a tensor", _COLLECT],
        ) from error
    if array.dtype.kind not in "fiu":
        kind = type_of(value) if array.dtype.kind in "OU" else f"of type {array.dtype}"
        raise UserError(
            f"the gradient of `{name}` is {kind}, must be an array of real numbers",
            place=place,
            help=[_COLLECT],
        )
    return array


def _check(name: str, array: Array, value: onnx_ir.Value, place: Place) -> None:
    shape = list(value.shape or ())
    if list(array.shape) != shape:
        raise UserError(
            f"the gradient of `{name}` has shape {list(array.shape)}, the weight has {shape}",
            place=place,
            help=["a gradient has one number for every element of the weight, as it is before the run"],
        )
    if bad := int(np.count_nonzero(~np.isfinite(array))):
        raise UserError(
            f"the gradient of `{name}` holds {bad:,} NaN or infinite values",
            place=place,
            help=["look at the loss, or scale it down: gradients of float16 overflow"],
        )


def _moved(name: str, array: Array, positions: Positions) -> Array:
    for axis, standing in positions.standing(name, array.shape):
        array = array.take(standing, axis)
    return array
