"""ONNX's own op schemas, looked up once."""

from __future__ import annotations

from functools import lru_cache

import onnx


@lru_cache(maxsize=4096)
def schema_of(op_type: str, domain: str, version: int | None) -> onnx.defs.OpSchema | None:
    """The schema of an op, or None for one that ONNX does not define: custom ops and ONNX Runtime's own."""
    if version is None:
        return None
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


@lru_cache(maxsize=8)
def opset_protos(opsets: tuple[tuple[str, int], ...]) -> list[onnx.OperatorSetIdProto]:
    """Domains and versions as protos, as single-node inference wants them."""
    return [onnx.helper.make_operatorsetid(domain, version) for domain, version in opsets]
