"""An experiment's cells: what each place gave, kept as it comes, so that a run goes on where it was stopped.

Owns the file of an experiment of many cells, its command, and how differences between its settings are told. A place
tells what was measured (task, draw, setting); it may have given several cells.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy import stats

from benchmarks.apart import start_as_worker
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.models import Precision, resolve_precision
from fewtune.system.processor import usable_cores

Cell = Mapping[str, Any]
Place = tuple[str, int]
"""A task and a draw of it."""


class Cells:
    """The cells that a file holds, and the way to add to them; `about` is what else the file says.

    A file goes on in the precision that it was begun in, on whatever machine; the one that it names is the last.
    """

    def __init__(self, file: Path, **about: Any) -> None:
        self.file = file
        self.about = about
        held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.found: list[Cell] = held.get("cells", [])
        self.precision: Precision = held.get("precision") or resolve_precision("auto")
        """What the model computes in: the file's where it has one, else this machine's best."""

    def lack(self, place: Cell) -> bool:
        """Whether no cell of a place was kept yet."""
        return not any(all(cell.get(key) == value for key, value in place.items()) for cell in self.found)

    def keep(self, place: Cell, *figures: Cell) -> None:
        """Print what a place gave, and write the file anew."""
        moment = describe_moment()
        for each in figures:
            self.found.append({**place, **each, "commit": moment["commit"]})
            print(self.found[-1], flush=True)
        machine = describe_machine(usable_cores())
        about = {**self.about, "precision": self.precision}
        write_results(self.file, {**about, "cells": self.found, "machine": machine, **moment})


def run_experiment(
    module: str,
    about: str | None,
    file: Path,
    measure: Callable[[Path], None],
    write_table: Callable[[dict[str, Any]], str],
) -> None:
    """The command of an experiment: measure what `file` lacks with the tasks' files of DATA_DIR, print the table.

    `about` is the module's docstring, whose first line the help shows.
    """
    start_as_worker(module)
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(about or "").splitlines()[0])
    parser.add_argument("data_dir", type=Path, help="where the tasks' files lie")
    measure(parser.parse_args().data_dir)
    print(write_table(json.loads(file.read_text(encoding="utf-8"))))


def place_cells(cells: Sequence[Cell], key: str, settings: Collection[Any]) -> dict[Place, dict[Any, Cell]]:
    """Cells by task and draw and by what `key` says of their setting; of the places alone that have all `settings`."""
    found: dict[Place, dict[Any, Cell]] = {}
    for cell in cells:
        found.setdefault((cell["task"], cell["draw"]), {})[cell[key]] = cell
    return {place: own for place, own in found.items() if all(setting in own for setting in settings)}


def format_gain_over(placed: Mapping[Place, Mapping[Any, Cell]], setting: Any, base: Any, figure: str) -> str:
    """What a setting's figure differs by from the base's on the same draws (`format_gain`); nothing for the base."""
    gains: dict[str, list[float]] = {}
    for (task, _), own in placed.items():
        gains.setdefault(task, []).append(own[setting][figure] - own[base][figure])
    return "" if setting == base else format_gain(gains)


def format_gain(gains: Mapping[str, Sequence[float]]) -> str:
    """The mean over tasks of what draws differ by on average, and its 95 % interval; none on one draw a task.

    The interval is Student's, of what draws of one task differ by, pooled over tasks.
    """
    mean = fmean(fmean(each) for each in gains.values())
    freedom = sum(len(each) - 1 for each in gains.values())
    if not freedom:
        return f"{mean:+.3f}"
    variance = sum((gain - fmean(each)) ** 2 for each in gains.values() for gain in each) / freedom
    reach = stats.t.ppf(0.975, freedom) * (variance * sum(1 / len(each) for each in gains.values())) ** 0.5 / len(gains)
    return f"{mean:+.3f} [{mean - reach:+.3f}, {mean + reach:+.3f}]"
