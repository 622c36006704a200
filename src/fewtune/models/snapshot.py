"""Finds a model's folder by catalogue name, path or hub id, and identifies it by its content.

Owns finding and fetching it. Does not read weights or configurations (`fingerprint`, `configuration`, `inspection`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from fewtune.errors import ModelError, name_choices
from fewtune.models.catalogue import CATALOGUE
from fewtune.models.chat import TEMPLATE, drop_chat, fingerprint_chat, is_chat, read_template
from fewtune.models.configuration import describe_error
from fewtune.models.fingerprint import fingerprint_model
from fewtune.models.packaged import unpack_package
from fewtune.system.failure_kinds import format_full_cache

MODEL_FILES = ["*.safetensors", "*.json", "tokenizer*", "vocab*", "merges.txt", "*.codes", "*.model", TEMPLATE]
"""What is taken of a model that lies elsewhere: neither pickles nor code but a template, which runs in a sandbox."""


@dataclass(frozen=True)
class ModelSnapshot:
    """A model's folder on this machine and the SHA-256 of its weights, tokenizer and configuration."""

    name: str
    path: Path
    weights_fingerprint: str
    revision: str | None = None
    """The commit of the hub that it is, where it comes from there."""


def find_model(name: str, revision: str | None = None) -> ModelSnapshot:
    """Find a model by catalogue name, local folder or hub id, fetching it where that is needed.

    A name that ends in `:chat` is the same model, asked by its chat template (`chat`). Raises ModelError that names
    the cache, the offline variable and the local-folder way out.
    """
    if is_chat(name):
        plain = find_model(drop_chat(name), revision)
        fingerprint = fingerprint_chat(plain.weights_fingerprint, read_template(name, plain.path))
        return replace(plain, name=name, weights_fingerprint=fingerprint)
    entry, commit = CATALOGUE.get(name), None
    if entry is not None and entry.packaged is not None:
        path = unpack_package(entry, entry.packaged)
    elif lies_in_folder(name):
        path = Path(name).expanduser().resolve()
    elif entry is not None and entry.hub_id is not None:
        path, commit = _download_from_hub(entry.hub_id, revision or entry.revision)
    elif is_hub_id(name):
        path, commit = _download_from_hub(name, revision)
    else:
        raise ModelError(
            name_choices(name, CATALOGUE, "model") + " Or give a folder that holds config.json and "
            "*.safetensors, or a hub id (owner/name)."
        )
    return ModelSnapshot(name, path, fingerprint_model(path), commit)


def is_hub_id(name: str) -> bool:
    """Whether a name that is no folder's can be one of the hub, `owner/name`."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def lies_in_folder(name: str) -> bool:
    """Whether a name is that of a folder of this machine, which no other machine finds by it."""
    plain = drop_chat(name)
    entry = CATALOGUE.get(plain)
    packaged = entry is not None and entry.packaged is not None
    try:
        return not packaged and Path(plain).expanduser().is_dir()
    except (OSError, RuntimeError):  # too long for a path, or of a user that this machine has not
        return False


def place_model(name: str) -> str:
    """A model's name, a folder's as a path that holds from everywhere."""
    if not lies_in_folder(name):
        return name
    plain = drop_chat(name)
    return f"{Path(plain).expanduser().resolve()}{name.removeprefix(plain)}"


def _download_from_hub(hub_id: str, revision: str | None) -> tuple[Path, str]:
    """A model's folder in the hub's cache, which is named by its commit, and that commit."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    way_out = (
        f"Looked in the cache {constants.HF_HUB_CACHE} (set HF_HOME to move it; HF_HUB_OFFLINE=1 never asks the "
        "network). Without network, give the path of a folder that holds config.json and *.safetensors instead, "
        "or use smollm2-135m, whose weights come from a package."
    )
    try:
        path = Path(snapshot_download(hub_id, revision=revision, allow_patterns=MODEL_FILES))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"model {hub_id!r} is not on the hub, or is private. {way_out}") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"model {hub_id!r} has no revision {revision or 'main'!r} on the hub. {way_out}") from error
    except Exception as error:  # a proxy or a connection that breaks raises whatever the client below the hub's does
        if full := format_full_cache(error, f"model {hub_id!r}", constants.HF_HUB_CACHE):
            raise ModelError(full) from error
        raise ModelError(
            f"model {hub_id!r} could not be downloaded and is not in the cache ({describe_error(error)}). {way_out}"
        ) from error
    if not any(path.glob("*.safetensors")):
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                f"model {hub_id!r}: the cache holds a part of it, without safetensors weights, and HF_HUB_OFFLINE "
                f"keeps the rest away. {way_out}"
            )
        raise ModelError(
            f"model {hub_id!r} at revision {revision or 'main'} has no safetensors weights, or the hub was not reached "
            f"and the cache holds a part of it; fewtune loads no others. Name the revision of its "
            f"safetensors conversion, {{name: {hub_id}, revision: refs/pr/NUMBER}} (the hub "
            "lists it among the model's pull requests), or save it once with `save_pretrained` and give that folder."
        )
    return path, path.name
