"""Opens the session of a recipe: the first of its providers that this machine has, and why not the others.

A recipe is a JSON file that the target ``ort`` writes: the model, and providers of ONNX Runtime with their options in
order of preference. Paths in it are relative to its own folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import read_text

SCHEMA = "prunec.session/1"
CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """A session of ONNX Runtime.

    Attributes:
        session: the ``onnxruntime.InferenceSession``.
        provider: the provider that it got.
        rejected: why it did not get those before it, by name.
    """

    session: Any
    provider: str
    rejected: Mapping[str, str]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Compute the outputs, by name.

        Args:
            feeds: an array for each input.
        """
        names = [value.name for value in self.session.get_outputs()]
        wanted = {value.name: feeds[value.name] for value in self.session.get_inputs()}
        return dict(zip(names, self.session.run(names, wanted), strict=True))

    def __str__(self) -> str:
        why = "; ".join(f"{name}: {reason}" for name, reason in self.rejected.items())
        return f"{self.provider} ({why})" if why else self.provider


def session(recipe: str | os.PathLike[str] | Mapping[str, Any], *, folder: str | Path = ".") -> OpenedSession:
    """Open the session of a recipe with the first of its providers that this machine has.

    Args:
        recipe: the recipe's file, or its content.
        folder: where the model is, if the recipe is given as content.

    Raises:
        UserError: the recipe cannot be read or is none, or no provider opens the model.
    """
    import onnxruntime as ort

    content, folder = _read_recipe(recipe, Path(folder))
    model = folder / content["model"]
    available, rejected = ort.get_available_providers(), {}
    for provider in content["providers"]:
        name = provider["name"]
        if name not in available:
            rejected[name] = f"not in onnxruntime {ort.__version__} as installed here"
            continue
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = int(content.get("intra_op_num_threads", 0))
        opened = _try_provider(ort, model, settings, name, _located(provider.get("options", {}), folder))
        if isinstance(opened, str):
            rejected[name] = opened
        else:
            return OpenedSession(session=opened, provider=name, rejected=rejected)
    notes = [f"{name}: {reason}" for name, reason in rejected.items()]
    raise UserError("no provider of the recipe opens the model", place=Place(file=str(model)), notes=notes)


def _try_provider(ort: Any, model: Path, settings: Any, name: str, options: Mapping[str, str]) -> Any:
    """A session with a provider, or the reason why there is none."""
    from prunec.ir.runtime import clean_message, runtime_errors

    fallback = [] if name == CPU else [CPU]
    try:
        opened = ort.InferenceSession(str(model), settings, providers=[(name, dict(options)), *fallback])
    except runtime_errors() as error:
        return clean_message(str(error))
    # A provider whose libraries are missing is left out in silence.
    return opened if name in opened.get_providers() else "ONNX Runtime could not load it"


def _located(options: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The options with paths that hold from everywhere, not from the recipe's folder alone."""
    return {key: str(folder / value) if key.endswith("_path") else value for key, value in options.items()}


def _read_recipe(
    recipe: str | os.PathLike[str] | Mapping[str, Any], folder: Path
) -> tuple[Mapping[str, Any], Path]:
    if isinstance(recipe, Mapping):
        content: Any = recipe
        place = None
    else:
        path = Path(recipe)
        place, folder = Place(file=str(path)), path.parent
        text = read_text(path, "recipe")
        try:
            content = json.loads(text)
        except ValueError as error:
            raise UserError(f"the recipe is no JSON: {error}", place=place) from error
    problem = _problem(content)
    if problem is not None:
        raise UserError(f"this is no session recipe: {problem}", place=place)
    return content, folder


def _problem(content: Any) -> str | None:
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        return f"its schema is not {SCHEMA}"
    if not isinstance(content.get("model"), str):
        return "it names no model"
    providers = content.get("providers")
    named = isinstance(providers, Sequence) and all(isinstance(p, Mapping) and "name" in p for p in providers)
    return None if providers and named else "it names no providers"
