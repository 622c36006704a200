"""Carries a local model folder to another machine and puts it into the cache there once.

Owns which files go along (neither pickles nor code) and where they come to lie. Does not know who carries them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from fewtune.data.cache_folder import cache_folder
from fewtune.errors import ModelError
from fewtune.models.chat import fingerprint_chat, is_chat, read_template
from fewtune.models.fingerprint import fingerprint_model
from fewtune.models.snapshot import MODEL_FILES, ModelSnapshot, lies_in_folder


def pack_model(snapshot: ModelSnapshot) -> dict[str, bytes] | None:
    """The files of a model by their place in its folder; None for one that every machine finds by its name."""
    if not lies_in_folder(snapshot.name):
        return None
    beside = [path for path in snapshot.path.iterdir() if any(fnmatch(path.name, pattern) for pattern in MODEL_FILES)]
    # Weights of no other folder: a trainer keeps its checkpoints in some.
    files = [*beside, *snapshot.path.glob("*/config.json")]
    return {path.relative_to(snapshot.path).as_posix(): path.read_bytes() for path in sorted(files) if path.is_file()}


def put_down_model(name: str, files: Mapping[str, bytes], fingerprint: str) -> ModelSnapshot:
    """The model that these files are, in this machine's cache; two processes at once are safe.

    Raises ModelError where it cannot be written there, or is another than the fingerprint says.
    """
    from filelock import FileLock

    if not fingerprint.isalnum():
        raise ModelError(f"{fingerprint!r} is no fingerprint of a model")
    target = cache_folder() / "models" / f"carried-{fingerprint[:16]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                _write(files, target)
    except OSError as error:
        raise ModelError(
            f"{target.parent}: model {name!r} could not be written there ({error.strerror or error}). Set "
            "FEWTUNE_CACHE to a folder that can be written and has room."
        ) from error
    found = fingerprint_model(target)
    if is_chat(name):
        found = fingerprint_chat(found, read_template(name, target))
    if found != fingerprint:
        raise ModelError(f"{target}: it is another model than {name!r} was. Delete that folder and run again.")
    return ModelSnapshot(name, target, fingerprint)


def _write(files: Mapping[str, bytes], target: Path) -> None:
    """Write a folder whole or not at all."""
    prefix = f".{target.name}."
    for left in target.parent.glob(f"{prefix}*"):  # by a process that was killed: this one holds the lock
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as scratch:
        finished = Path(scratch) / "finished"
        for place, content in files.items():
            if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
                raise ModelError(f"{place!r} lies outside of a model's folder")
            path = finished / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        finished.chmod(0o755)
        shutil.move(finished, target)
