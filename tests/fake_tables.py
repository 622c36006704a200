"""Made-up tasks and methods, so that studies and trials are tested without the real ones.

Owns the stand-ins' settings. Does not know what is tested with them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from fewtune import methods, tasks
from fewtune.methods.base import Method


@dataclass(frozen=True)
class NoSettings:
    """Nothing to set."""


@dataclass(frozen=True)
class InContextSettings:
    """Demonstrations."""

    demonstrations: Annotated[int | None, Field(ge=0, description="Rows shown; null: the support.")] = None
    calibration: Annotated[Literal["raw", "contextual", "batch"], Field(description="Correction.")] = "raw"


@dataclass(frozen=True)
class LoraSettings:
    """Low rank."""

    rank: Annotated[int, Field(ge=1, description="Rank of each adapter.")] = 8
    learning_rate: Annotated[float, Field(gt=0, description="Peak rate.")] = 2e-4
    targets: Annotated[tuple[str, ...], Field(description="Layers.")] = ("all",)
    readout: Annotated[Literal["label_words", "head"], Field(description="What reads the answer.")] = "head"


@dataclass(frozen=True)
class Words:
    """One label's word."""

    word: str


@dataclass(frozen=True)
class MnliSettings:
    """Labels."""

    three_way: Annotated[bool, Field(description="Keep neutral apart.")] = False


@dataclass(frozen=True)
class OwnFilesSettings:
    """Files."""

    train: Annotated[str, Field(description="Path of a CSV file.")]
    text: Annotated[str | tuple[str, ...], Field(description="Columns.")]
    label_words: Annotated[dict[str, Words], Field(description="Word of each label.")] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.train.endswith(".csv"):
            raise ValueError(f"{self.train!r} is no CSV file.")


def _never_plan(*_: Any) -> Any:
    raise AssertionError("a study is checked without planning")


_METHODS: dict[str, Method] = {
    name: Method(
        name=name,
        summary=f"{name} in a line.",
        source_url="",
        settings=settings,
        plan=_never_plan,
        uses_model=uses_model,
        uses_fit_seed=lambda settings, used=uses_fit_seed: used,  # type: ignore[misc]
        needs_pool=lambda settings: getattr(settings, "calibration", None) == "batch",
    )
    for name, settings, uses_model, uses_fit_seed in (
        ("majority", NoSettings, False, False),
        ("in_context", InContextSettings, True, False),
        ("lora", LoraSettings, True, True),
    )
}
_TASKS: dict[str, type] = {"sentiment": NoSettings, "mnli": MnliSettings, "own_files": OwnFilesSettings}


def install_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables of methods and tasks hold the stand-ins alone."""
    for table, names in ((methods.METHODS, _METHODS), (tasks.TASKS, _TASKS)):
        for name in reversed(list(table)):  # put back last first, and so in the order of before
            monkeypatch.delitem(table, name)
        for name in names:
            monkeypatch.setitem(table, name, f"fake_plugin_{name}")
    for name, method in _METHODS.items():
        module = ModuleType(f"fake_plugin_{name}")
        module.METHOD = method  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name, settings in _TASKS.items():
        module = ModuleType(f"fake_plugin_{name}")
        module.Settings = settings  # type: ignore[attr-defined]
        module.SUMMARY = f"{name} in a line."  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
