"""Recognises what was given in place of a saved model's folder, and says what to type instead.

Owns the kinds of such folders and their words. Reads no more than a configuration.
"""

from __future__ import annotations

import json
import re
from enum import Enum, auto
from pathlib import Path
from typing import Any

from fewtune.models import CATALOGUE
from fewtune.models.chat import drop_chat
from fewtune.records import is_packed

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_EXPORTED = ("classify.py", "adapter_config.json")
"""What `fewtune export` writes for a program and for PEFT."""


class Mistaken(Enum):
    """What stands where a saved model was looked for."""

    FILE = auto()
    STUDY = auto()
    EXPORT = auto()
    """A classifier, an adapter or a program for other tools."""
    BASE = auto()
    """A language model that was fitted on nothing, in a folder."""
    NAME = auto()
    """The catalogue's name of such a model."""
    HUB_NAME = auto()
    """No folder here, and perhaps a model of the hub."""
    NOTHING = auto()
    OTHER = auto()


def tell_kind(given: Path) -> Mistaken:
    """What a path is that holds no saved model."""
    if given.is_file():
        return Mistaken.FILE
    if not given.is_dir():
        name = drop_chat(str(given))
        if name in CATALOGUE:
            return Mistaken.NAME
        # Below a folder that is there it is a path that was mistyped.
        return Mistaken.HUB_NAME if _HUB_ID.fullmatch(name) and not given.parent.is_dir() else Mistaken.NOTHING
    if is_packed(given) or (given / "trials").is_dir() or (given / "planned.json").is_file():
        return Mistaken.STUDY
    if any((given / name).is_file() for name in _EXPORTED):
        return Mistaken.EXPORT
    if (given / "config.json").is_file():
        return Mistaken.EXPORT if "id2label" in _read_object(given / "config.json") else Mistaken.BASE
    return Mistaken.OTHER


def format_mistaken(given: Path) -> str:
    """Say what a path is that holds no saved model, and what to type or give."""
    fitting = f"`fewtune fit ROWS --model {given} --save MODEL` fits it. Then give MODEL."
    match tell_kind(given):
        case Mistaken.FILE:
            return f"{given} is a file, and a model is a folder. Give one that `fewtune fit --save` wrote."
        case Mistaken.STUDY:
            return (
                f"{given} holds a study's records and no model: `fewtune fit --from {given} --save MODEL` makes one of "
                "what the study chose. Then give MODEL."
            )
        case Mistaken.EXPORT:
            return (
                f"{given} holds a model for other tools, such as `fewtune export` writes; the README.md there says how "
                "these load it. Give the folder that it was exported from, which `fewtune fit --save` wrote."
            )
        case Mistaken.BASE | Mistaken.NAME:
            return f"{given} is a language model that was fitted on no rows of yours: {fitting}"
        case Mistaken.HUB_NAME:
            told = f"{given}: there is no such folder. Give one that `fewtune fit --save` wrote"
            return f"{told}. Where it is a model of the hub, {fitting}"
        case Mistaken.NOTHING:
            return f"{given}: there is no such folder. Give one that `fewtune fit --save` wrote."
        case Mistaken.OTHER:
            return (
                f"{given} holds no manifest.json, and so no saved model. Give a folder that `fewtune fit --save` wrote "
                "(in Python `Predictor.save`)."
            )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
