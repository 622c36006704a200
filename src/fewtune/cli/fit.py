"""`fewtune fit`: one labelled file in, a saved model out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fewtune.cli.options import check_share, parse_seconds
from fewtune.cli.output import console, say
from fewtune.errors import FewtuneError

TEST_HELP = "Test rows, as FILE (in domain) or NAME=FILE (out of domain); splits of the training rows where none."


def fit(
    train: Annotated[Path, Parameter(help="The labelled rows: CSV, TSV, JSON Lines or Parquet.")],
    *,
    save: Annotated[Path, Parameter(help="New folder for the model.")],
    text: Annotated[list[str] | None, Parameter(help="The column of texts, or both of two.")] = None,
    label: Annotated[str, Parameter(help="The column of labels.")] = "label",
    test: Annotated[list[str] | None, Parameter(help=TEST_HELP)] = None,
    method: Annotated[str, Parameter(help="A method, or auto: those that suit race, and one is chosen.")] = "auto",
    model: Annotated[str, Parameter(help="The language model.")] = "smollm2-135m",
    within: Annotated[
        float | None, Parameter(help="How far below the best the choice may be: 0.03 is three points.")
    ] = None,
    budget: Annotated[str, Parameter(help="Time that the race may take, as 90s, 15m or 2h.")] = "15m",
    out: Annotated[Path | None, Parameter(help="Folder of the race's records; the model's with -race behind.")] = None,
    seed: int = 0,
) -> int:
    """Choose a method by a race on splits of your rows, fit it on all of them, and save the model."""
    began = time.perf_counter()
    from fewtune.auto import LabelledFile, choose_method, fit_all, race_methods
    from fewtune.cli.report import show_report
    from fewtune.cli.run_display import RunDisplay
    from fewtune.methods import METHODS, get_method

    check_share("--within", within, "take the best alone")
    minutes = parse_seconds("--budget", budget) / 60
    if save.exists() and (not save.is_dir() or any(save.iterdir())):
        raise FewtuneError(f"{save} exists and is not empty: give --save a new folder.")
    file = LabelledFile(train, None if text is None else tuple(text), label, _read_tests(test or []))
    file.read()  # what cannot be used is told before anything runs
    if method == "auto":
        with RunDisplay(console, 1, began) as display:
            folder = save.with_name(f"{save.name}-race") if out is None else out
            result = race_methods(file, model, folder, within, minutes, on_event=display.hear)
        show_report(result)
        method = choose_method(result)
        if result.decision.chosen is None:
            say(f"No method is known to be near enough to the best; {method} is nearest by its bound.")
    elif method not in METHODS:
        get_method(method)  # which refuses it by name
    say(f"Fitting {method} on all rows …")
    predictor = fit_all(file, method, model if get_method(method).uses_model else None, seed)
    predictor.save(save)
    say(f"model: {save} (fewtune predict {save} ROWS)")
    return 0


def _read_tests(given: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in given:
        name, found_equals, path = each.partition("=")
        key, place = (name, path) if found_equals else ("in_domain", each)
        if key in found:
            raise FewtuneError(f"--test names {key!r} twice: give each set of test rows a name of its own, NAME=FILE.")
        found[key] = Path(place)
    return found
