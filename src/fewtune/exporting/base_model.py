"""Finds an export's base model: its public name, and its weights on this machine.

Owns which name that is: a folder has none but its path, unless it is one of the hub's own cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fewtune.models.catalogue import CATALOGUE
from fewtune.models.chat import drop_chat
from fewtune.models.snapshot import find_model, is_hub_id, lies_in_folder
from fewtune.predictors.manifest import BasePart


@dataclass(frozen=True)
class BaseModel:
    """A base model by its id on the hub, its name in the catalogue or, where it has neither, its folder."""

    name: str
    revision: str | None = None
    """The commit of the hub that it is, where it comes from there."""
    folder: Path | None = None
    """Where its weights lie on this machine, where that was asked for."""


def find_base(part: BasePart, given: str | None, revision: str | None) -> BaseModel:
    """The base of a saved model that was loaded from `given` (None: its own name), at this commit, with its folder."""
    folder = find_model(drop_chat(given or part.name), revision).path
    named = name_base(part) if given is None else name_base(part) or name_model(given, revision)
    return replace(named or BaseModel(str(folder)), folder=folder)


def name_base(part: BasePart) -> BaseModel | None:
    """The name on any machine of a saved model's base, and its commit; None of a folder that has no name."""
    return name_model(part.name, part.revision)


def name_model(name: str, revision: str | None) -> BaseModel | None:
    """The same of a model that was asked for by this name."""
    plain = drop_chat(name)
    entry = CATALOGUE.get(plain)
    if lies_in_folder(plain):
        return _read_hub_folder(Path(plain))
    if entry is not None:
        return BaseModel(plain) if entry.hub_id is None else BaseModel(entry.hub_id, revision)
    return BaseModel(plain, revision) if is_hub_id(plain) else _read_hub_folder(Path(plain))


def _read_hub_folder(path: Path) -> BaseModel | None:
    """The model that a folder of the hub's cache is, `models--OWNER--NAME/snapshots/COMMIT`; None of any other.

    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    kind, _, hub_id = path.parent.parent.name.partition("--")
    if path.parent.name != "snapshots" or kind != "models" or not hub_id:
        return None
    return BaseModel(hub_id.replace("--", "/"), path.name)
