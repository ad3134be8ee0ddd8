"""Small networks around every registered op: a layer with weights before it, one behind it, in random sizes and
forms.
"""

from __future__ import annotations

from conformance import attention as attention
from conformance import lines as lines
from conformance import recurrent as recurrent
from conformance import tables as tables
from conformance.network import CASES as CASES
from conformance.network import Draw as Draw
from conformance.network import Network as Network
