"""A kind of bad input and its cases.

Owns their shape and how a case is run to its verdict. Does not know any kind.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from benchmarks.attack.stage import Stage, reuse_fork_server
from benchmarks.attack.verdict import Caught, Verdict


@dataclass(frozen=True)
class Case:
    """One attack: a function that acts on a stage, raising Caught where it finds something, and its arguments."""

    name: str
    act: Callable[..., None]
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A kind of bad input; `item` is the number of the finding it belongs to."""

    name: str
    item: int
    make_cases: Callable[[int], Sequence[Case]]
    """Cases from a size: about so many where they are drawn at random; a table's are all of it, whatever the size."""
    size: int = 1
    alone: bool = False
    """Whether its cases need the machine to themselves: they time something."""


def run_case(case: Case, material: Path, patience: float = 1.0) -> Verdict:
    """Run one case in a folder of its own; what the attack itself does wrong is raised."""
    reuse_fork_server()
    folder = Path(tempfile.mkdtemp(prefix="attack-", dir=material.parent))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars of models being saved
            case.act(Stage(folder, material, patience), **case.given)
    except Caught as caught:
        told = caught.verdict.detail.replace(str(folder), "CASE").replace(str(material), "MATERIAL")
        return Verdict(caught.verdict.word, told)
    except Exception as error:
        raise RuntimeError(f"{case.name}: {traceback.format_exc()}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Verdict("right")


def draw_examples(strategy: SearchStrategy[Any], count: int) -> list[Any]:
    """The same examples of a strategy whenever it is asked, each once."""
    drawn: list[Any] = []

    @settings(
        max_examples=max(1, count),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        if example not in drawn:
            drawn.append(example)

    collect()
    return drawn
