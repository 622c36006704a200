"""A predictor's folder: written whole or not at all, and read only where it is what its manifest says.

Owns the files: `manifest.json`, `weights.safetensors`, and `adapter/` in PEFT's own layout. No pickle is written, and
no file is read that the manifest does not name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fewtune.errors import ModelError, PredictorError
from fewtune.models import ModelSnapshot, Precision
from fewtune.predictors.constant import ConstantScorer
from fewtune.predictors.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    SCHEMA_VERSION,
    AdapterPart,
    BasePart,
    ConstantPart,
    LanguagePart,
    Manifest,
    SoftTokensPart,
    WordsPart,
)
from fewtune.predictors.mistaken_folder import word_mistaken
from fewtune.predictors.predictor import Predictor, Scorer
from fewtune.predictors.words import WordScorer

MANIFEST = "manifest.json"
_WEIGHTS = "weights.safetensors"
_PACKAGES = ("fewtune", "numpy", "safetensors", "scikit-learn", "torch", "transformers", "peft")


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write a predictor into a folder that does not exist yet, or is empty; raises PredictorError where it cannot."""
    fill_folder(folder, lambda finished: _write_parts(predictor, finished))


def fill_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a folder of what `write` writes into another, whole or not at all; it must be new, or empty.

    Raises PredictorError where it is neither, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PredictorError(f"{folder} exists and is not empty: give a new folder to save a model into.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            finished = Path(scratch) / "finished"
            finished.mkdir()
            write(finished)
            if not folder.exists():
                shutil.move(finished, folder)
            else:  # it may be where something is mounted, or where the command runs
                # The manifest last: a folder without one is no model, whatever else could be moved.
                for path in sorted(finished.iterdir(), key=lambda path: path.name == MANIFEST):
                    shutil.move(path, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PredictorError(f"{folder}: the model could not be written there ({reason}).") from error


def _write_parts(predictor: Predictor, folder: Path) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in predictor.scorer.arrays().items()}
    if arrays:
        save_file(arrays, folder / _WEIGHTS)
    predictor.scorer.write_more(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        labels=predictor.labels,
        fields=predictor.fields,
        scorer=predictor.scorer.describe(),
        temperature=predictor.temperature,
        abstention=predictor.abstention,
        origin=dict(predictor.origin),
        versions={package: version(package) for package in _PACKAGES},
        files={path.relative_to(folder).as_posix(): _hash(path) for path in files},
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_predictor(folder: Path | str, base: Path | str | None = None, precision: Precision | None = None) -> Predictor:
    """Read a predictor that `Predictor.save` wrote; its scores equal those it gave when it was saved.

    `base` is where its base model lies, a folder, catalogue name or hub id; None: the name it was fitted under.
    `precision` is what it computes in; None: what it was fitted in. Raises
    PredictorError where the folder is no predictor's, is damaged or newer, or the base is another model; ModelError
    where the base cannot be found or read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        if not _is_inside(name) or not (folder / name).is_file():
            raise PredictorError(f"{folder}: {name}, which its manifest names, is not there. Copy the folder anew.")
        if _hash(folder / name) != expected:
            raise PredictorError(
                f"{folder / name}: its content is not what was saved (its SHA-256 differs from the manifest's). Copy "
                "the folder anew, or fit the model again."
            )
    try:
        arrays = load_file(folder / _WEIGHTS) if _WEIGHTS in manifest.files else {}
        scorer = _rebuild(manifest, arrays, folder, base, precision)
    except (KeyError, SafetensorError, OSError) as error:
        raise PredictorError(f"{folder}: what its manifest asks for is not in its files ({error}).") from error
    return Predictor(
        manifest.labels, manifest.fields, scorer, manifest.origin, manifest.temperature, manifest.abstention
    )


def _rebuild(
    manifest: Manifest,
    arrays: dict[str, np.ndarray],
    folder: Path,
    base: Path | str | None,
    precision: Precision | None,
) -> Scorer:
    part = manifest.scorer
    if isinstance(part, ConstantPart):
        return ConstantScorer.rebuild(arrays)
    if isinstance(part, WordsPart):
        return WordScorer.rebuild(part, arrays)
    if isinstance(part.network, (AdapterPart, SoftTokensPart)):
        named = {name.replace("\\", "/") for name in manifest.files}
        for name in (f"{ADAPTER}/{ADAPTER_CONFIG}", f"{ADAPTER}/{ADAPTER_WEIGHTS}"):
            if name not in named:  # PEFT would take what else lies there, a pickle too
                raise PredictorError(f"{folder}: its manifest does not name {name}. Copy the folder anew.")
    return _rebuild_language(part, arrays, folder, base, precision)


def _rebuild_language(
    part: LanguagePart,
    arrays: dict[str, np.ndarray],
    folder: Path,
    base: Path | str | None,
    precision: Precision | None,
) -> Scorer:
    from fewtune.engine.loading import load_model
    from fewtune.models import find_model
    from fewtune.models.chat import CHAT, drop_chat, is_chat
    from fewtune.predictors.language import LanguageScorer

    named = str(base) if base is not None else part.base.name
    if is_chat(part.base.name):
        named = drop_chat(named) + CHAT
    snapshot = _find_base(named, part.base) if base is None else find_model(named)
    if snapshot.weights_fingerprint != part.base.weights_fingerprint:
        raise PredictorError(_word_other_base(folder, snapshot.path, part.base))
    return LanguageScorer.rebuild(part, arrays, folder, load_model(snapshot, precision or part.base.precision))


def _find_base(name: str, base: BasePart) -> ModelSnapshot:
    """The base model at its commit; where that cannot be had, what its name gives now, if it is the same model."""
    from fewtune.models import find_model

    try:
        return find_model(name, base.revision)
    except ModelError:
        with contextlib.suppress(ModelError):
            found = find_model(name)
            if base.revision is not None and found.weights_fingerprint == base.weights_fingerprint:
                return found
        raise


def _word_other_base(folder: Path, given: Path, base: BasePart) -> str:
    return (
        f"{folder}: it was fitted on another model than {given} holds (its base, {base.name!r}, has the fingerprint "
        f"{base.weights_fingerprint[:12]}…). Give that model's folder as `base`."
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a saved predictor; raises PredictorError saying what is wrong with it."""
    path = folder / MANIFEST
    if not path.is_file():
        raise PredictorError(word_mistaken(folder))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise PredictorError(f"{path}: not readable as JSON. Copy the folder anew, or fit the model again.") from error
    told = content.get("schema_version") if isinstance(content, dict) else None
    if type(told) is int and told > SCHEMA_VERSION:
        raise PredictorError(
            f"{path}: it was written by a newer fewtune (format {told}; this one reads {SCHEMA_VERSION}). Update "
            "fewtune to load it."
        )
    if type(told) is int and told < SCHEMA_VERSION:
        raise PredictorError(
            f"{path}: it was written by an older fewtune (format {told}; this one reads {SCHEMA_VERSION}). Fit the "
            "model again."
        )
    try:
        return Manifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise PredictorError(f"{path}: not the manifest of a saved model ({field}: {first['msg']}).") from error


def _is_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
