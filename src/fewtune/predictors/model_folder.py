"""A predictor's folder: written completely or not at all, and read only where it matches its manifest.

Owns the files: `manifest.json`, `weights.safetensors`, and `adapter/` in PEFT's own layout; of a stack the latter two
for each member, in `members/0` and so on. No pickle is written, and no file is read that the manifest does not name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors.numpy import save_file

from fewtune.data.strict_json import RepeatedKeyError, parse_json
from fewtune.engine.model_cache import ModelCache
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
    ScorerPart,
    SoftTokensPart,
    StackPart,
    WordsPart,
    digest_manifest,
    list_members,
)
from fewtune.predictors.mistaken_folder import format_mistaken
from fewtune.predictors.predictor import Arrays, Predictor, Scorer
from fewtune.predictors.stack import StackScorer, list_scorers, name_member_folder
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
    arrays = {
        at: {name: np.ascontiguousarray(array) for name, array in scorer.arrays().items()}
        for at, scorer in list_scorers(predictor.scorer).items()
    }
    needed = sum(array.nbytes for each in arrays.values() for array in each.values()) or None  # all else is small
    # The manifest last: a folder without one is no model, whatever else is there.
    with fill_atomically(folder, MANIFEST, needed) as finished:
        _write_parts(predictor, arrays, finished)
        yield finished, read_manifest(finished)


def check_free(folder: Path) -> None:
    """Raise PredictorError where nothing can be saved in a folder: it is there, and not empty."""
    if folder.exists() and not (folder.is_dir() and is_empty(folder)):
        raise PredictorError(f"{folder} exists and is not empty: give a new folder to save a model into.")


def _write_parts(predictor: Predictor, arrays: Mapping[str, Arrays], folder: Path) -> None:
    for at, scorer in list_scorers(predictor.scorer).items():
        (folder / at).mkdir(parents=True, exist_ok=True)
        if arrays[at]:
            save_file(arrays[at], folder / at / _WEIGHTS)
        scorer.write_more(folder / at)
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

    `base` is where its base model lies, a folder, catalogue name or hub id; None: the name it was fitted under. Of a
    stack it is the base of the members that were fitted on that model.
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
        _rebuild(manifest.scorer, _Saved(manifest, folder, None if base is None else str(base), precision)),
        manifest.origin,
        manifest.temperature,
        manifest.abstention,
    )


@dataclass(frozen=True)
class _Saved:
    """What scorers are rebuilt from: a folder, its manifest, and what its reader asked for."""

    manifest: Manifest
    folder: Path
    base: str | None
    precision: Precision | None
    models: ModelCache = field(default_factory=ModelCache)
    """Members of a stack that were fitted on one base share it."""


def _rebuild(part: ScorerPart, saved: _Saved, at: str = "") -> Scorer:
    """A scorer whose files are in `at`, below the folder."""
    manifest, folder = saved.manifest, saved.folder / at
    if isinstance(part, StackPart):
        members = tuple(
            Predictor(
                manifest.labels,
                manifest.fields,
                _rebuild(member.scorer, saved, name_member_folder(place)),
                member.origin,
                member.temperature,
            )
            for place, member in enumerate(part.members)
        )
        return StackScorer(members, part.weights, part.bias)
    named = {name.replace("\\", "/") for name in manifest.files}
    tensors = TensorFile(folder / _WEIGHTS, there=_join(at, _WEIGHTS) in named)
    if isinstance(part, ConstantPart):
        return ConstantScorer.rebuild(tensors, len(manifest.labels))
    if isinstance(part, WordsPart):
        return WordScorer.rebuild(part, tensors)
    if isinstance(part.network, (AdapterPart, SoftTokensPart)):
        for name in (_join(at, ADAPTER, ADAPTER_CONFIG), _join(at, ADAPTER, ADAPTER_WEIGHTS)):
            if name not in named:  # what no hash vouches for is not read
                raise PredictorError(f"{saved.folder}: its manifest does not name {name}. {COPY_ANEW}")
    from fewtune.predictors.language_rebuild import rebuild_language

    model = saved.models.get(_find_snapshot(part.base, saved), saved.precision or part.base.precision)
    return rebuild_language(part, len(manifest.labels), manifest.fields, tensors, folder, model)


def _join(*parts: str) -> str:
    """A path as a manifest names it."""
    return "/".join(part for part in parts if part)


def _find_snapshot(part: BasePart, saved: _Saved) -> ModelSnapshot:
    """The base model that a scorer was fitted on; raises PredictorError where what is found is another."""
    given, members = saved.base, list_members(saved.manifest.scorer)
    others = [m.base for m in members if isinstance(m, LanguagePart) and m.base != part]
    if given is None or (any(_fits(given, other) for other in others) and not _fits(given, part)):
        snapshot = _find_base(part)
    else:
        snapshot = _find_given(given, part)
    if not _is_base(snapshot, part):
        raise PredictorError(_format_other_base(saved.folder, snapshot.path, part))
    return snapshot


def _is_base(snapshot: ModelSnapshot, base: BasePart) -> bool:
    return snapshot.weights_fingerprint == base.weights_fingerprint


def _fits(name: str, base: BasePart) -> bool:
    """Whether a name that was given is that of a base."""
    with contextlib.suppress(ModelError):
        return _is_base(_find_given(name, base), base)
    return False


def _find_given(name: str, base: BasePart) -> ModelSnapshot:
    """The model of a name that was given in place of a base's own; asked by its chat template where the base was."""
    from fewtune.models import find_model
    from fewtune.models.chat import CHAT, drop_chat, is_chat

    return find_model(drop_chat(name) + CHAT if is_chat(base.name) else name)


def _find_base(base: BasePart) -> ModelSnapshot:
    """The base model at its commit; where that cannot be had, what its name gives now, if it is the same model."""
    from fewtune.models import find_model

    try:
        return find_model(base.name, base.revision)
    except ModelError:
        with contextlib.suppress(ModelError):
            found = find_model(base.name)
            if base.revision is not None and _is_base(found, base):
                return found
        raise


def _format_other_base(folder: Path, given: Path, base: BasePart) -> str:
    return (
        f"{folder}: it was fitted on another model than {given} holds (its base, {base.name!r}, has the fingerprint "
        f"{base.weights_fingerprint[:12]}…). Give that model's folder as `base`."
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a saved predictor; raises PredictorError saying what is wrong with it."""
    path = folder / MANIFEST
    if not path.is_file():
        raise PredictorError(format_mistaken(folder))
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
