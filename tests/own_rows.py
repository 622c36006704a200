"""Own files read with settings as a study would give them: what tests of such files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from fewtune.errors import DataError
from fewtune.tasks.base import Task
from fewtune.tasks.own_files import Settings, load

Write = Callable[[str, str | bytes], Path]


def read(folder: Path, **settings: object) -> Task:
    """Load `train.csv` of the folder, or what the settings name."""
    parsed = TypeAdapter(Settings).validate_python({"train": "train.csv", **settings})
    return load(parsed, folder)


def refusal(folder: Path, **settings: object) -> str:
    """The words that reading is refused with."""
    with pytest.raises(DataError) as caught:
        read(folder, **settings)
    return str(caught.value)
