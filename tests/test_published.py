"""The published figures are whole, find their cell by any name of a model, and know what is wrong with them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import fewtune
from fewtune.methods import METHODS
from fewtune.report import published
from fewtune.report.published import find_counterpart, load_published
from fewtune.tasks import cola, hans, mnli

PAPER = load_published("paper")
TASK = {task.name: task for task in PAPER.tasks}
METHOD = {method.name: method for method in PAPER.methods}


@pytest.mark.parametrize(
    ("task", "method", "model", "shots", "inside", "outside"),
    [
        ("cola", "vanilla", "opt-125m", 4, 53.1, 55.3),
        ("cola", "PBFT", "opt-350m", 256, 64.1, 64.5),
        ("cola", "adaptive, 1 layer", "facebook/opt-125m", 64, 52.8, 52.7),
        ("cola", "LoRA, r = 8", "opt-125m", 128, 59.8, 60.5),
        ("mnli", "few-shot context distillation", "models/OPT-125m/", 256, 67.1, 50.0),
        ("mnli", "full context distillation", "opt-125m", None, 72.1, 49.7),
    ],
)
def test_a_cell_is_found_by_total_shots_and_any_name_of_its_model(
    task: str, method: str, model: str, shots: int | None, inside: float, outside: float
) -> None:
    found = PAPER.find(task, method, model, shots)
    assert found is not None
    assert (found.in_domain, found.out_of_domain) == (inside, outside)


@pytest.mark.parametrize(
    ("task", "method", "model", "shots"),
    [
        ("rte", "vanilla", "opt-125m", 4),
        ("cola", "vanilla", "opt-1.3b", 4),
        ("cola", "vanilla", "opt-125m", 2),  # two a class are four in total
        ("mnli", "LoRA, r = 8", "opt-125m", 4),
        ("mnli", "few-shot context distillation", "opt-350m", 4),
    ],
)
def test_what_was_not_published_is_not_found(task: str, method: str, model: str, shots: int) -> None:
    assert PAPER.find(task, method, model, shots) is None


def test_every_row_of_figures_has_its_five_shots_and_twelve_rows_and_three_epochs_there_are() -> None:
    results = list(PAPER.results())
    assert len(results) == 12 * 5 + 3
    assert len({(r.task, r.method, r.model, r.shots_total, r.epochs) for r in results}) == len(results)
    assert {r.method for r in results} == set(METHOD) >= {time.method for time in PAPER.times}
    assert all(40 < value < 75 for r in results for value in (r.in_domain, r.out_of_domain))


def test_what_the_caveats_say_of_the_figures_is_so() -> None:
    in_domain = [r.in_domain for r in PAPER.results() if r.task == "cola"]
    assert max(in_domain) < TASK["cola"].in_domain_majority == 69.1  # type: ignore[operator]
    hans_means = [r.out_of_domain for r in PAPER.results() if r.task == "mnli"]
    assert min(hans_means) >= 48.0 and max(hans_means) <= 52.5


def test_tasks_are_named_and_labelled_as_ours() -> None:
    assert TASK["cola"].labels == cola.LABELS
    assert TASK["cola"].out_of_domain_sets == (cola.OUT_OF_DOMAIN,)
    assert TASK["mnli"].labels == mnli.TWO_WAY
    assert TASK["mnli"].out_of_domain_sets == (hans.HANS, hans.HANS_REGENERATED)


def test_counterparts_are_methods_of_ours_with_settings_of_theirs() -> None:
    from dataclasses import fields

    from fewtune.methods import get_method

    for method in PAPER.methods:
        for counterpart in method.counterparts:
            assert counterpart.method in METHODS
            assert set(counterpart.settings) <= {f.name for f in fields(get_method(counterpart.method).settings)}


@pytest.mark.parametrize(
    ("ours", "settings", "names"),
    [
        ("vanilla", {"prompted": False}, ["vanilla"]),
        ("vanilla", {"prompted": True}, ["PBFT"]),
        ("pattern", {"loss_over": "label_words"}, ["PBFT"]),
        ("adaptive", {"blocks": 2, "readout": "head"}, ["adaptive, 2 layers"]),
        ("adaptive", {"blocks": 4, "readout": "head"}, []),
        ("lora", {"rank": 8, "readout": "head", "targets": "all_linear"}, ["LoRA, r = 8"]),
        ("lora", {"rank": 4, "readout": "head", "targets": "all_linear"}, []),
        ("context_distillation", {"variant": "full"}, ["full context distillation"]),
        ("in_context", {}, []),
    ],
)
def test_a_method_of_ours_answers_to_at_most_one_published(
    ours: str, settings: dict[str, object], names: list[str]
) -> None:
    found = [method.name for method in PAPER.methods if find_counterpart(method, ours, settings) is not None]
    assert found == names


def test_an_alike_counterpart_has_no_difference_and_a_corrected_one_says_it() -> None:
    alike = find_counterpart(METHOD["PBFT"], "vanilla", {"prompted": True})
    corrected = find_counterpart(METHOD["PBFT"], "pattern", {})
    assert alike is not None and alike.difference == ""
    assert corrected is not None and "language-model head" in corrected.difference


def test_caveats_apply_where_they_should() -> None:
    everywhere = {c.name for c in PAPER.caveats if not c.tasks and not c.methods}
    names = {c.name for c in PAPER.list_caveats("cola", "PBFT")}
    assert names == everywhere | {"shared rows", "below majority", "not pattern-based"}
    names = {c.name for c in PAPER.list_caveats("mnli", "few-shot context distillation")}
    assert names == everywhere | {"HANS at chance", "no context"}
    assert {method for c in PAPER.caveats for method in c.methods} <= set(METHOD)


def test_an_installed_package_brings_the_figures_along() -> None:
    build = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    (target,) = build["targets"]["wheel"]["force-include"].values()
    assert published.FOLDERS[0] == Path(fewtune.__file__).parent / Path(target).name
