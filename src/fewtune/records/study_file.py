"""Reads what analysis needs of `OUT/study.yaml`, without the modules that run a study.

Owns which entries these are and what each may be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from fewtune.errors import RecordError
from fewtune.guarantee import Guarantee
from fewtune.records.faults import format_error

ENTRIES: dict[str, TypeAdapter[Any]] = {
    "name": TypeAdapter(str),
    "metrics": TypeAdapter(list[str]),
    "tasks": TypeAdapter(list[str | Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]]),
    "equivalence": TypeAdapter(int | float | str),
    "within": TypeAdapter(int | float | str),
    "guarantee": TypeAdapter(Guarantee),
    "data_seeds": TypeAdapter(list[int]),
    "until": TypeAdapter(dict[str, Any] | str),
}
"""The entries of a study that are read from its folder."""


def load_study_entry(out: Path, key: str) -> Any:
    """One entry of OUT/study.yaml as written there; None where the folder or the entry is missing.

    Raises RecordError where the file is damaged, or the entry cannot be one of a study.
    """
    path = out / "study.yaml"
    if not path.is_file():
        return None
    import yaml

    try:
        study = yaml.safe_load(path.read_text(encoding="utf-8"))
        entry = study.get(key)
        return None if entry is None else ENTRIES[key].validate_python(entry, strict=True)
    except ValidationError as error:
        raise RecordError(
            f"{path}: `{key}` is none that a study has ({format_error(error)}). Mend it, or delete that file and run "
            "the study again into this folder: finished trials are kept."
        ) from error
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"{path}: damaged. Delete that file and run the study again into this folder: finished trials are kept."
        ) from error
