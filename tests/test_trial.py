"""Claims about trials: the grid, what an id depends on, how seeds derive."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_tables import install_tables
from fewtune.study import Evaluation, MethodChoice, ModelChoice, Study, TaskChoice, Tuning, load_study
from fewtune.study.grid import Trial, list_trials, resolve_shots
from fewtune.study.identity import fingerprint_patterns, identify_trial
from fewtune.study.seeds import derive_seed, make_rng
from fewtune.tasks.base import Pattern

STUDY = """\
name: demo
models: [a, b]
tasks: [sentiment, mnli]
methods: [majority, in_context, lora]
shots: [16, 32]
data_seeds: {count: 3}
fit_seeds: [0, 1]
"""

TRIAL = Trial(
    model=ModelChoice(name="a"),
    task=TaskChoice(name="mnli", label="mnli", settings={"three_way": False}),
    method=MethodChoice(name="lora", variant="lora", settings={"rank": 8, "readout": "head"}),
    candidates=({"rank": 8, "readout": "head"},),
    shots=16,
    shots_per="total",
    sampling="balanced",
    data_seed=0,
    fit_seed=0,
    evaluation=Evaluation(),
    pool_rows=0,
    precision="float32",
    max_tokens=512,
)
GIVEN: dict[str, Any] = {
    "data_fingerprint": "d",
    "weights_fingerprint": "w",
    "method_revision": 1,
    "task_revision": 1,
    "patterns_fingerprint": "p",
}


@pytest.fixture(autouse=True)
def _fake_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    install_tables(monkeypatch)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return load_study(path)


# The grid


def test_the_grid_counts_models_and_fit_seeds_only_where_they_are_used(study: Study) -> None:
    trials = list_trials(study)
    counts = {name: sum(t.method.name == name for t in trials) for name in ("majority", "in_context", "lora")}
    assert counts == {"majority": 2 * 2 * 3, "in_context": 2 * 2 * 2 * 3, "lora": 2 * 2 * 2 * 3 * 2}
    assert len(trials) == sum(counts.values())
    assert {t.model for t in trials if t.method.name == "majority"} == {None}
    assert {t.fit_seed for t in trials if t.method.name != "lora"} == {0}


def test_a_method_may_run_on_some_of_the_models(study: Study) -> None:
    narrowed = [m.model_copy(update={"models": ("b",)}) if m.name == "lora" else m for m in study.methods]
    trials = list_trials(study.model_copy(update={"methods": tuple(narrowed)}))
    on = {name: {t.model and t.model.name for t in trials if t.method.name == name} for name in ("in_context", "lora")}
    assert on == {"in_context": {"a", "b"}, "lora": {"b"}}
    assert {t.model for t in trials if t.method.name == "majority"} == {None}


def test_the_grid_keeps_one_model_and_task_together(study: Study) -> None:
    trials = list_trials(study)
    blocks = [(t.model, t.task.label) for t in trials]
    changes = 1 + sum(left != right for left, right in itertools.pairwise(blocks))
    assert changes == len(set(blocks)) == 2 + 2 * 2
    assert [model and model.name for model, _ in dict.fromkeys(blocks)] == [None, None, "a", "a", "b", "b"]


def test_resolved_precision_replaces_auto_only(study: Study) -> None:
    assert {t.precision for t in list_trials(study)} == {"auto"}
    assert {t.precision for t in list_trials(study, "bfloat16")} == {"bfloat16"}
    fixed = study.model_copy(update={"precision": "float32"})
    assert {t.precision for t in list_trials(fixed, "bfloat16")} == {"float32"}


def test_all_trials_of_a_grid_have_different_ids(study: Study) -> None:
    ids = [
        identify_trial(
            trial,
            **GIVEN | {"weights_fingerprint": trial.model and trial.model.name, "data_fingerprint": trial.task.name},
        )
        for trial in list_trials(study, "float32")
    ]
    assert len(set(ids)) == len(ids)


# Identity


def test_an_id_is_pinned() -> None:
    """Records are found again by it: whoever changes this value makes every record stale."""
    assert identify_trial(TRIAL, **GIVEN) == "808726b06086ec78"


def test_a_setting_that_came_after_records_is_no_part_of_an_id_where_it_is_null() -> None:
    ids = [
        identify_trial(replace(TRIAL, candidates=({"rank": 8, "readout": "head"} | later,)), **GIVEN)
        for later in ({}, {"class_weight": None}, {"class_weight": "balanced"})
    ]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": ({"rank": 9, "readout": "head"},)},
        {"candidates": ({"rank": 8, "readout": "head"}, {"rank": 9, "readout": "head"}), "tuning": Tuning(trials=2)},
        {"method": MethodChoice(name="in_context", variant="lora", settings={"rank": 8, "readout": "head"})},
        {"task": TaskChoice(name="rte", label="mnli", settings={"three_way": False})},
        {"shots": 17},
        {"shots_per": "class"},
        {"sampling": "natural"},
        {"sampling": "stratified"},
        {"data_seed": 1},
        {"fit_seed": 1},
        {"evaluation": Evaluation(in_domain_rows=None)},
        {"evaluation": Evaluation(out_of_domain_rows=10)},
        {"pool_rows": 1},
        {"precision": "bfloat16"},
        {"max_tokens": 256},
    ],
)
def test_what_decides_the_result_changes_the_id(changes: dict[str, Any]) -> None:
    assert identify_trial(replace(TRIAL, **changes), **GIVEN) != identify_trial(TRIAL, **GIVEN)


def test_what_each_draw_holds_out_and_a_metric_that_chooses_change_the_id() -> None:
    tuned = replace(TRIAL, tuning=Tuning(trials=2))
    ids = [identify_trial(TRIAL, **GIVEN, held_out=share) for share in (None, 0.25, 0.5)]
    ids += [identify_trial(tuned, **GIVEN, chosen_metric=metric) for metric in (None, "accuracy", "macro_f1")]
    assert len(set(ids)) == len(ids)
    assert identify_trial(TRIAL, **GIVEN, chosen_metric="macro_f1") == ids[0]  # it judges, and decides no result


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_every_fingerprint_and_revision_changes_the_id(name: str) -> None:
    other = GIVEN | {name: 2 if name.endswith("revision") else "x"}
    assert identify_trial(TRIAL, **other) != identify_trial(TRIAL, **GIVEN)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelChoice(name="./a/folder", revision="r")},
        {"task": TaskChoice(name="mnli", label="other", settings={"train": "b.csv"})},
        {
            "method": MethodChoice(name="lora", variant="other", settings={}),
            "candidates": ({"readout": "head", "rank": 8},),
        },
    ],
)
def test_names_paths_and_order_do_not_change_the_id(changes: dict[str, Any]) -> None:
    assert identify_trial(replace(TRIAL, **changes), **GIVEN) == identify_trial(TRIAL, **GIVEN)


@pytest.mark.parametrize("changes", [{"fit_seed": 1}, {"precision": "auto"}, {"max_tokens": 9}])
def test_what_a_method_without_model_or_seed_ignores_does_not_change_its_id(changes: dict[str, Any]) -> None:
    majority = MethodChoice(name="majority", variant="majority", settings={})
    floor = replace(TRIAL, model=None, method=majority, candidates=({},))
    given = GIVEN | {"weights_fingerprint": None}
    assert identify_trial(replace(floor, **changes), **given) == identify_trial(floor, **given)


def test_shots_per_class_and_in_total_meet_once_resolved() -> None:
    per_class = replace(TRIAL, shots=8, shots_per="class")
    assert resolve_shots(per_class, labels=2) == TRIAL
    assert resolve_shots(TRIAL, labels=2) is TRIAL


def test_an_id_is_refused_where_it_would_not_hold() -> None:
    with pytest.raises(ValueError, match="fingerprint of its weights"):
        identify_trial(TRIAL, **GIVEN | {"weights_fingerprint": None})
    with pytest.raises(ValueError, match="resolve it"):
        identify_trial(replace(TRIAL, precision="auto"), **GIVEN)


def test_patterns_fingerprints_differ_by_template_words_and_order() -> None:
    one = Pattern("one", "{text} It was", (" bad", " good"))
    two = Pattern("two", "{text} It was", (" awful", " good"))
    prints = {fingerprint_patterns(patterns) for patterns in ([one], [two], [one, two], [two, one])}
    assert len(prints) == 4


def test_a_constrained_pattern_has_a_fingerprint_of_its_own_and_others_keep_theirs() -> None:
    plain = Pattern("one", "{text} It was", (" bad", " good"))
    # As it was before patterns could be constrained.
    assert fingerprint_patterns([plain]).startswith("287aa7a6244f357b")
    assert fingerprint_patterns([replace(plain, constrained=True)]) != fingerprint_patterns([plain])


# Seeds


def test_a_seed_is_pinned_and_has_63_bits() -> None:
    assert derive_seed("draw", "cola", 16, 0) == 4550025258544558001
    assert all(0 <= derive_seed("axis", i) < 2**63 for i in range(100))


def test_seeds_differ_by_every_axis_and_by_type_and_order() -> None:
    axes: list[tuple[str | int, ...]] = [("a", 1), ("a", "1"), ("a", 2), (1, "a"), ("a1",), ("b", 1), ("a",)]
    assert len({derive_seed(*each) for each in axes}) == len(axes)


def test_a_generator_repeats_itself_and_no_other() -> None:
    first, again, other = make_rng("x", 1), make_rng("x", 1), make_rng("x", 2)
    drawn = first.integers(1 << 60, size=4)
    assert np.array_equal(drawn, again.integers(1 << 60, size=4))
    assert not np.array_equal(drawn, other.integers(1 << 60, size=4))
