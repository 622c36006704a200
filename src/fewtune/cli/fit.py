"""`fewtune fit`: one labelled file in, a saved model out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fewtune.cli.options import check_share, parse_seconds
from fewtune.cli.output import console, say
from fewtune.errors import FewtuneError

if TYPE_CHECKING:
    from fewtune.auto import LabelledFile

TEST_HELP = "Test rows, as FILE (in domain) or NAME=FILE (out of domain); splits of the training rows where none."


@Parameter(name="*")
@dataclass(frozen=True)
class Columns:
    """Which columns are read, and where test rows are."""

    text: Annotated[list[str] | None, Parameter(help="The column of texts, or both of two.")] = None
    label: Annotated[str, Parameter(help="The column of labels.")] = "label"
    test: Annotated[list[str] | None, Parameter(help=TEST_HELP)] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Choice:
    """What is fitted, and how it is chosen."""

    method: Annotated[str, Parameter(help="A method, or auto: those that suit race, and one is chosen.")] = "auto"
    model: Annotated[str, Parameter(help="The language model.")] = "smollm2-135m"
    seed: Annotated[int, Parameter(help="Seed of the last fit.")] = 0
    within: Annotated[
        float | None, Parameter(help="How far below the best the choice may be: 0.03 is three points.")
    ] = None
    budget: Annotated[str, Parameter(help="Time that the race may take, as 90s, 15m or 2h.")] = "15m"
    out: Annotated[Path | None, Parameter(help="Folder of the race's records; the model's with -race behind.")] = None


def fit(
    train: Annotated[Path, Parameter(help="The labelled rows: CSV, TSV, JSON Lines or Parquet.")],
    *,
    save: Annotated[Path, Parameter(help="New folder for the model.")],
    columns: Columns = Columns(),
    choice: Choice = Choice(),
) -> int:
    """Choose a method by a race on splits of your rows, fit it on all of them, and save the model."""
    began = time.perf_counter()
    from fewtune.auto import LabelledFile, fit_all
    from fewtune.methods import get_method

    check_share("--within", choice.within, "take the best alone")
    minutes = parse_seconds("--budget", choice.budget) / 60
    if save.exists() and (not save.is_dir() or any(save.iterdir())):
        raise FewtuneError(f"{save} exists and is not empty: give --save a new folder.")
    text = None if columns.text is None else tuple(columns.text)
    file = LabelledFile(train, text, columns.label, _read_tests(columns.test or []))
    file.read()  # what cannot be used is told before anything runs
    method = choice.method
    if method == "auto":
        folder = save.with_name(f"{save.name}-race") if choice.out is None else choice.out
        method = _race(file, choice, folder, minutes, began)
    known = get_method(method)  # which refuses an unknown one
    say(f"Fitting {method} on all rows …")
    fit_all(file, method, choice.model if known.uses_model else None, choice.seed).save(save)
    say(f"model: {save} (fewtune predict {save} ROWS)")
    return 0


def _race(file: LabelledFile, choice: Choice, folder: Path, minutes: float, began: float) -> str:
    from fewtune.auto import choose_method, race_methods
    from fewtune.cli.report import show_report
    from fewtune.cli.run_display import RunDisplay

    with RunDisplay(console, 1, began) as display:
        result = race_methods(file, choice.model, folder, choice.within, minutes, on_event=display.hear)
    show_report(result)
    method = choose_method(result)
    if result.decision.chosen is None:
        say(f"No method is known to be near enough to the best; {method} is nearest by its bound.")
    return method


def _read_tests(given: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in given:
        name, found_equals, path = each.partition("=")
        key, place = (name, path) if found_equals else ("in_domain", each)
        if key in found:
            raise FewtuneError(f"--test names {key!r} twice: give each set of test rows a name of its own, NAME=FILE.")
        found[key] = Path(place)
    return found
