"""A predictor's folder: written whole or not at all, and read only where it is what its manifest says.

Owns the files: `manifest.json`, `weights.safetensors`, and `adapter/` in PEFT's own layout. No pickle is written, and
no file is read that the manifest does not name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors.numpy import save_file

from fewtune.data.strict_json import RepeatedKeyError, parse_json
from fewtune.errors import ModelError, PredictorError, shorten
from fewtune.models import ModelSnapshot, Precision
from fewtune.predictors.constant import ConstantScorer
from fewtune.predictors.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    COPY_ANEW,
    OLDEST_VERSION,
    SCHEMA_VERSION,
    AdapterPart,
    BasePart,
    ConstantPart,
    LanguagePart,
    Manifest,
    SoftTokensPart,
    WordsPart,
    digest_manifest,
)
from fewtune.predictors.mistaken_folder import word_mistaken
from fewtune.predictors.predictor import Predictor, Scorer
from fewtune.predictors.tensors import TensorFile
from fewtune.predictors.words import WordScorer
from fewtune.records import fill_atomically, is_empty, write_atomically

MANIFEST = "manifest.json"
_WEIGHTS = "weights.safetensors"
_PACKAGES = ("fewtune", "numpy", "safetensors", "scikit-learn", "torch", "transformers", "peft")


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write a predictor into a folder that does not exist yet, or is empty, whole or not at all.

    Raises PredictorError where it is neither, UnwrittenError where it cannot be written.
    """
    with saving(predictor, folder):
        pass


@contextlib.contextmanager
def saving(predictor: Predictor, folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """A predictor's files, in a folder that more may be written into, and its manifest; raises as `save_predictor`.

    It stands as `folder` once this ends without an error; else nothing is there.
    """
    check_free(folder)
    arrays = {name: np.ascontiguousarray(array) for name, array in predictor.scorer.arrays().items()}
    needed = sum(array.nbytes for array in arrays.values()) or None  # what is not an array is small
    # The manifest last: a folder without one is no model, whatever else is there.
    with fill_atomically(folder, MANIFEST, needed) as finished:
        _write_parts(predictor, arrays, finished)
        yield finished, read_manifest(finished)


def check_free(folder: Path) -> None:
    """Raise PredictorError where nothing can be saved in a folder: it is there, and not empty."""
    if folder.exists() and not (folder.is_dir() and is_empty(folder)):
        raise PredictorError(f"{folder} exists and is not empty: give a new folder to save a model into.")


def _write_parts(predictor: Predictor, arrays: dict[str, np.ndarray], folder: Path) -> None:
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
    manifest = manifest.model_copy(update={"digest": digest_manifest(json.loads(manifest.model_dump_json()))})
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=1).encode() + b"\n")


def load_predictor(folder: Path | str, base: Path | str | None = None, precision: Precision | None = None) -> Predictor:
    """Read a predictor that `Predictor.save` wrote; its scores equal those it gave when it was saved.

    `base` is where its base model lies, a folder, catalogue name or hub id; None: the name it was fitted under.
    `precision` is what it computes in; None: what it was fitted in. Raises
    PredictorError where the folder is no predictor's, is damaged or newer, or the base is another model; ModelError
    where the base cannot be found or read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    _check_files(folder, manifest.files)
    return Predictor(
        manifest.labels,
        manifest.fields,
        _rebuild(manifest, folder, base, precision),
        manifest.origin,
        manifest.temperature,
        manifest.abstention,
    )


def _rebuild(manifest: Manifest, folder: Path, base: Path | str | None, precision: Precision | None) -> Scorer:
    part = manifest.scorer
    tensors = TensorFile(folder / _WEIGHTS, there=_WEIGHTS in manifest.files)
    if isinstance(part, ConstantPart):
        return ConstantScorer.rebuild(tensors, len(manifest.labels))
    if isinstance(part, WordsPart):
        return WordScorer.rebuild(part, tensors)
    if isinstance(part.network, (AdapterPart, SoftTokensPart)):
        named = {name.replace("\\", "/") for name in manifest.files}
        for name in (f"{ADAPTER}/{ADAPTER_CONFIG}", f"{ADAPTER}/{ADAPTER_WEIGHTS}"):
            if name not in named:  # what no hash vouches for is not read
                raise PredictorError(f"{folder}: its manifest does not name {name}. {COPY_ANEW}")
    return _rebuild_language(manifest, part, tensors, folder, base, precision)


def _rebuild_language(
    manifest: Manifest,
    part: LanguagePart,
    tensors: TensorFile,
    folder: Path,
    base: Path | str | None,
    precision: Precision | None,
) -> Scorer:
    from fewtune.engine.loading import load_model
    from fewtune.models import find_model
    from fewtune.models.chat import CHAT, drop_chat, is_chat
    from fewtune.predictors.language_rebuild import rebuild_language

    named = str(base) if base is not None else part.base.name
    if is_chat(part.base.name):
        named = drop_chat(named) + CHAT
    snapshot = _find_base(named, part.base) if base is None else find_model(named)
    if snapshot.weights_fingerprint != part.base.weights_fingerprint:
        raise PredictorError(_word_other_base(folder, snapshot.path, part.base))
    model = load_model(snapshot, precision or part.base.precision)
    return rebuild_language(manifest, part, tensors, folder, model)


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
        text = path.read_text(encoding="utf-8")
        content = parse_json(text)
    except RepeatedKeyError as error:
        raise PredictorError(f"{path}: {error}. {COPY_ANEW}") from error
    except (ValueError, RecursionError, OSError) as error:
        raise PredictorError(f"{path}: not readable as JSON. {COPY_ANEW}") from error
    told = content.get("schema_version") if isinstance(content, dict) else None
    if type(told) is int and told > SCHEMA_VERSION:
        raise PredictorError(
            f"{path}: it was written by a newer fewtune (format {told}; this one reads {SCHEMA_VERSION}). Update "
            "fewtune to load it."
        )
    if type(told) is int and told < OLDEST_VERSION:
        raise PredictorError(
            f"{path}: it was written by an older fewtune (format {told}; this one reads {SCHEMA_VERSION}). Fit the "
            "model again."
        )
    try:
        manifest = Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        reason = f"{field}: {first['msg']}" if field else first["msg"]
        raise PredictorError(f"{path}: not the manifest of a saved model ({shorten(reason, 400)}).") from error
    digest = digest_manifest(content) if manifest.schema_version > OLDEST_VERSION else None
    if manifest.digest != digest:
        raise PredictorError(f"{path}: its content is not what was saved (it differs from its digest). {COPY_ANEW}")
    return manifest


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise PredictorError naming the first file that is not there, or not as it was saved."""
    for name, expected in files.items():
        shown = shorten(name)
        try:
            found = _hash(folder / name) if _is_inside(name) and (folder / name).is_file() else None
        except OSError as error:
            raise PredictorError(f"{folder}: {shown} cannot be read ({error.strerror or error}).") from error
        if found is None:
            raise PredictorError(f"{folder}: {shown}, which its manifest names, is not there. {COPY_ANEW}")
        if found != expected:
            raise PredictorError(
                f"{folder / name}: its content is not what was saved (its SHA-256 differs from the manifest's). "
                f"{COPY_ANEW}"
            )


def _is_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
