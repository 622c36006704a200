"""Reads a study from a YAML file with overrides, or from the same values given in Python.

Owns both ways in, and raising every fault that was found at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewtune.errors import Fault, StudyError
from fewtune.study.draft import Draft
from fewtune.study.entries import read_entries
from fewtune.study.overrides import apply_override
from fewtune.study.resolve import resolve_study
from fewtune.study.values import Study
from fewtune.study.yaml_text import MOST_CHARACTERS, parse_file


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, apply `path.to.key=value` overrides; raises StudyError with every fault at once."""
    source = str(path)
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)  # what is longer is refused unread
    except FileNotFoundError:
        raise StudyError(source, [Fault("no such file. Give the path of a study's YAML file.")]) from None
    except UnicodeDecodeError as error:
        raise StudyError(source, [Fault(f"not a text file in UTF-8 ({error.reason}).")]) from None
    except OSError as error:
        raise StudyError(source, [Fault(f"cannot be read ({error.strerror}).")]) from None
    except ValueError as error:  # a path that holds a NUL character
        raise StudyError(source, [Fault(f"cannot be read ({error}).")]) from None
    draft = parse_file(text, source)
    for override in overrides:
        apply_override(draft, override)
    return _finish(draft, source)


def _finish(draft: Draft, source: str, lines: bool = True) -> Study:
    """The study of a draft; raises StudyError with its faults, without their lines where no file has any."""
    study = resolve_study(draft)
    _raise_faults(draft, source, lines)
    assert study is not None  # or there is a fault
    return study


def _raise_faults(draft: Draft, source: str, lines: bool) -> None:
    """Raise StudyError with a draft's faults, where it has any."""
    if draft.faults:
        unique = dict.fromkeys(draft.faults if lines else (Fault(fault.message) for fault in draft.faults))
        raise StudyError(source, sorted(unique, key=lambda f: (f.line is None, f.line or 0)))


def read_study(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Study:
    """A study from the values that a study file holds, given in Python; raises StudyError with every fault at once."""
    source = "the study"
    draft = _parse_values(values, source)
    for override in overrides:
        apply_override(draft, override)
    return _finish(draft, source, lines=False)


_OF_STUDIES = {
    "grid": "only a study chooses from a grid: give one value of each.",
    "as": "only a study has names for its methods: leave `as` out.",
    "models": "only a study lists models: leave `models` out.",
}
"""What stands beside a method's settings in a study and is none of them."""


def read_settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a method, those given read and refused as a study's are; raises StudyError with every fault."""
    source = f"the settings of {method}"
    draft = _parse_values({"methods": [{method: dict(settings)}]}, source)
    entries = read_entries(draft, "methods", "method")
    for key, why in _OF_STUDIES.items():
        if key in settings:
            draft.refuse(("methods", 0, method, key), why)
    _raise_faults(draft, source, lines=False)
    return entries[0].settings


def _parse_values(values: Mapping[str, Any], source: str) -> Draft:
    try:
        text = json.dumps(values, default=_write_value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StudyError(source, [Fault(f"it holds what no study file can: {error}.")]) from None
    # JSON is YAML, but for its halves of characters: what holds for a file, its bounds too, holds for values.
    return parse_file(_ESCAPED.sub(_join_halves, text), source)


_ESCAPED = re.compile(r"\\u(d[89ab]..)\\u(d[c-f]..)|\\.")
"""An escape of JSON's; one of a character beyond U+FFFF is of two halves, which YAML does not know."""


def _join_halves(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return escape[0]
    return f"\\U{0x10000 + ((int(escape[1], 16) - 0xD800) << 10) + int(escape[2], 16) - 0xDC00:08x}"


def _write_value(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, range):
        return list(value)
    raise TypeError(f"a {type(value).__name__}")
