"""Claims about grids and tuning in study files: what they resolve to, and what is refused at which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_tables import install_tables
from fewtune.study import load_study
from study_text import find_faults, minimal, read


@pytest.fixture(autouse=True)
def _fake_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    install_tables(monkeypatch)


TUNED = minimal(
    models="[smollm2-135m]",
    methods="[majority, {lora: {rank: 4, grid: {learning_rate: [1e-4, 3e-4], readout: [head, label_words]}}}]",
    tuning="{trials: 4}",
)


def test_a_grid_gives_its_combinations_in_order(tmp_path: Path) -> None:
    study = read(tmp_path, TUNED)
    majority, lora = study.methods
    assert study.tuning is not None and (study.tuning.trials, study.tuning.folds) == (4, 4)
    assert majority.candidates == [{}] and lora.variant == "lora"
    assert lora.grid == {"learning_rate": (1e-4, 3e-4), "readout": ("head", "label_words")}
    assert [(c["learning_rate"], c["readout"], c["rank"]) for c in lora.candidates] == [
        (1e-4, "head", 4),
        (1e-4, "label_words", 4),
        (3e-4, "head", 4),
        (3e-4, "label_words", 4),
    ]
    assert lora.settings == lora.candidates[0]


def test_a_method_says_on_which_models_it_runs_and_the_resolved_study_keeps_it(tmp_path: Path) -> None:
    methods = "[majority, {in_context: {models: [two]}}, {in_context: {as: everywhere, demonstrations: 2}}]"
    study = read(tmp_path, minimal(models="[one, two]", methods=methods))
    assert {each.variant: each.models for each in study.methods} == {
        "majority": (),
        "in_context": ("two",),
        "everywhere": (),
    }
    (tmp_path / "again.yaml").write_text(study.to_yaml())
    assert load_study(tmp_path / "again.yaml") == study


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            "[{in_context: {models: [tow]}}]",
            "unknown model of this study 'tow'. Did you mean 'two'? Allowed: one, two.",
        ),
        ("[{majority: {models: [one]}}]", "majority uses no model: leave `models` out."),
        (
            "[{in_context: {models: [two]}}, {in_context: {as: everywhere}}]",
            "'everywhere' has the same settings as 'in_context' (first on line 3): keep one.",
        ),
        (
            "[{in_context: {models: one}}]",
            '`methods.0.in_context.models` is "one": give names, for example [smollm2-135m].',
        ),
    ],
)
def test_models_that_a_method_cannot_run_on_are_refused_at_their_line(
    tmp_path: Path, methods: str, message: str
) -> None:
    assert (3, message) in find_faults(tmp_path, minimal(models="[one, two]", methods=methods))


def grid(text: str, tuning: str = "{trials: 2}", others: str = "") -> dict[str, str]:
    return {"models": "[smollm2-135m]", "methods": f"[{{lora: {{grid: {text}}}}}{others}]", "tuning": tuning}


@pytest.mark.parametrize(
    ("changes", "line", "message"),
    [
        (
            grid("{rank: [1, 2, 4], readout: [head, label_words]}"),
            3,
            (
                "the grid of lora has 6 settings (rank 3 x readout 2) and `tuning.trials` is 2: every method is tuned "
                "with equal effort. Give each a grid of 2."
            ),
        ),
        (
            grid("{rank: [1]}"),
            3,
            (
                "the grid of lora has 1 setting (rank 1) and `tuning.trials` is 2: every method is tuned with equal "
                "effort. Give each a grid of 2."
            ),
        ),
        (
            grid("{rank: [1, 2]}", others=", in_context"),
            3,
            (
                "in_context has no grid: under `tuning` every method but the baselines chooses from 2 settings, or "
                "it is compared untuned with tuned ones. Give it a grid, or run it in a study without tuning."
            ),
        ),
        (
            grid("{rank: [1, 2]}", tuning="null"),
            3,
            "lora has a grid and the study no `tuning`: add tuning: {trials: 2, folds: 4}, or remove the grid.",
        ),
        (grid("{rank: [1, 0]}"), 3, "`methods.0.lora.grid.rank` is 0: it should be greater than or equal to 1."),
        (grid("{rank: [1, 1]}"), 3, "`methods.0.lora.grid` lists a value of rank twice: keep one."),
        (
            grid("{rank: 4}"),
            3,
            (
                "`methods.0.lora.grid` has 4 for rank: give values to choose from by setting, for example "
                "{learning_rate: [1e-5, 3e-5]}."
            ),
        ),
        (
            grid("[1, 2]"),
            3,
            (
                "`methods.0.lora.grid` is a list: give values to choose from by setting, for example "
                "{learning_rate: [1e-5, 3e-5]}."
            ),
        ),
        (
            grid("{rnak: [1, 2]}"),
            3,
            "unknown setting of lora 'rnak'. Did you mean 'rank'? Allowed: learning_rate, rank, readout, targets.",
        ),
        (grid("{rank: [1, 2]}, rank: 3"), 3, "rank stands in the settings and in the grid: keep one."),
        (grid("{rank: [1, 2]}", "{trials: 1}"), 6, "`tuning.trials` is 1: it should be greater than or equal to 2."),
        (
            grid("{rank: [1, 2]}", tuning="{trails: 2}"),
            6,
            "unknown key of tuning 'trails'. Did you mean 'trials'? Allowed: folds, trials.",
        ),
    ],
)
def test_a_fault_of_tuning_names_what_is_wrong_and_its_line(
    tmp_path: Path, changes: dict[str, str], line: int, message: str
) -> None:
    assert (line, message) in find_faults(tmp_path, minimal(**changes))
