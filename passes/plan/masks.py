"""Masks of weights as a plan holds them: one bit a weight, packed, compressed, in base64.

The bits are stored, not the rule that chose them, so that a replay makes the same zeros in the network after
fine-tuning, where the rule would choose others.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightMask:
    """Which elements of one tensor stay.

    Attributes:
        name: of the tensor, as the pass found it.
        shape: of the tensor, as the pass found it (behind a cut, its shape after the cut).
        pattern: of the zeros, such as ``2:4``.
        zeros: how many elements go.
        updated: whether those that stay have new values.
        bits: per element whether it stays, in row-major order, eight to a byte, the first one highest.
    """

    name: str
    shape: tuple[int, ...]
    pattern: str
    zeros: int
    updated: bool = False
    bits: bytes

    @classmethod
    def of(cls, name: str, keep: NDArray[np.bool_], *, pattern: str, updated: bool = False) -> WeightMask:
        """The mask of a tensor; ``keep`` has its shape."""
        import numpy as np

        return cls(
            name=name,
            shape=keep.shape,
            pattern=pattern,
            zeros=keep.size - int(np.count_nonzero(keep)),
            updated=updated,
            bits=np.packbits(keep).tobytes(),
        )

    def keep(self) -> NDArray[np.bool_]:
        """Per element of the tensor whether it stays."""
        import numpy as np

        bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=prod(self.shape))
        return bits.view(bool).reshape(self.shape)


def encode(bits: bytes) -> str:
    """Bits as text."""
    return base64.b64encode(zlib.compress(bits, 6)).decode("ascii")


def decode(text: str, size: int) -> bytes:
    """The bits in a text.

    Args:
        text: what :func:`encode` made.
        size: number of bits; a text that holds more is not unpacked further.

    Raises:
        ValueError: the text does not hold so many bits; the message says what it is.
    """
    try:
        packed = base64.b64decode(text, validate=True)
        unpacker = zlib.decompressobj()
        bits = unpacker.decompress(packed, -(-size // 8) + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError("expected compressed bits in base64") from error
    if len(bits) != -(-size // 8) or not unpacker.eof:
        raise ValueError(f"expected {size} bits in {-(-size // 8)} bytes, got {len(bits)} bytes or more")
    return bits
