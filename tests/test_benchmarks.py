"""The measuring scripts: their arithmetic, their tables, and each one's core on a tiny model; no second is asserted."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewtune
from benchmarks.ablation.__main__ import ablate, time_work
from benchmarks.ablation.levers import LEVERS, find_levers
from benchmarks.ablation.table import write_table as write_ablation
from benchmarks.ablation.works import WORKS
from benchmarks.ablation.works import Size as AblationSize
from benchmarks.agreement.__main__ import check
from benchmarks.agreement.checks import CHECKS, compare
from benchmarks.agreement.checks import Size as AgreementSize
from benchmarks.agreement.table import is_reached
from benchmarks.agreement.table import write_table as write_agreement
from benchmarks.apart import run_apart
from benchmarks.demo import write_table as write_demo
from benchmarks.race.material import Material
from benchmarks.run_seconds import describe_run
from benchmarks.scaling.__main__ import sweep
from benchmarks.scaling.chart import draw_scaling
from benchmarks.scaling.curves import CURVES, SCORING, fit_exponent
from benchmarks.scaling.curves import WORKS as SCALED
from benchmarks.scaling.point import BYTES_A_TRAINED, Point, cut_blocks, draw_rows, measure_point, relabel
from benchmarks.scaling.table import write_tables
from benchmarks.seconds_by_kind import KINDS, REST, sort_operation
from benchmarks.seconds_by_kind import WORKS as PROFILED
from benchmarks.seconds_by_kind import write_table as write_kinds
from benchmarks.serve import compare as compare_served
from benchmarks.serve import measure as measure_serving
from benchmarks.serve import write_table as write_serve
from fewtune.engine import side_by_side
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.engine.model_cache import ModelCache
from fewtune.engine.packing import Packed
from fewtune.engine.score_cache import ScoreCache
from fewtune.models import find_model
from fewtune.records import Cost, Record
from fewtune.tasks.base import Draw, Example, Task
from study_maker import make_axes

TINY = AblationSize(
    steps=2, warm_up=2, shots=8, batch_size=4, blocks=1, test_rows=20, demonstrations=4, queries=8, pool_rows=6
)
MACHINE = {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0", "lm_eval": None}}


@pytest.fixture(scope="module")
def material(model_folders: dict[str, Path], task: Task, draw: Draw) -> Material:
    return Material(find_model(str(model_folders["llama"])), task, draw, TINY.of_race())


@pytest.fixture(scope="module")
def cache() -> ModelCache:
    return ModelCache()


@pytest.mark.parametrize("work", list(WORKS))
def test_a_lever_switched_off_moves_no_answer(work: str, material: Material, cache: ModelCache) -> None:
    on = time_work(work, None, material, TINY, "bfloat16", cache)
    for lever in find_levers(work, "bfloat16"):
        off = time_work(work, lever, material, TINY, "bfloat16", cache)
        assert off["precision"] == ("float32" if lever == "bfloat16" else "bfloat16")
        assert on["seconds"] > 0 and off["seconds"] > 0
        assert off["figure"] == pytest.approx(on["figure"], abs=0.05), lever
    assert time_work(work, None, material, TINY, "bfloat16", cache)["figure"] == on["figure"]


def test_a_switched_off_lever_changes_what_runs(material: Material) -> None:
    model = load_model(material.place, "bfloat16")
    rows = [[5, 6, 7], [8, 9]]

    def turn_off(lever: str) -> LanguageModel:
        return replace(model, options=LEVERS[lever].off)

    def pack(lever: str) -> Packed:
        return turn_off(lever).forward(model.frozen).pack(rows)

    assert [pack(lever).tokens.shape[1] for lever in ("packing", "fused")] == [6, 5]
    assert pack("packing").tokens[0][pack("packing").ends].tolist() == [7, 9]
    assert {p.dtype for p in turn_off("held-in-bfloat16").frozen.parameters()} == {torch.float32}
    assert torch.bfloat16 in {p.dtype for p in model.frozen.parameters()}
    for lever, groups in (("side-by-side", 2), ("fused", 1)):
        padding = LEVERS[lever].off.most_padding
        assert len(side_by_side.lay_out((3, 2), padding, None, model.device).groups) == groups
    assert turn_off("kept-states").forward(model.frozen).frozen.most_bytes == 0
    assert turn_off("frozen-apart").forward(model.frozen).frozen.count == 0
    kept = [replace(turn_off(lever), cache=ScoreCache()).forward(model.frozen) for lever in ("scores-kept", "fused")]
    assert [forward.cache is not None for forward in kept] == [False, True]


def test_in_float32_there_is_no_bfloat16_to_switch_off() -> None:
    only = set(find_levers("lora", "bfloat16")) - set(find_levers("lora", "float32"))
    assert only == {"bfloat16", "held-in-bfloat16"}
    assert {work for lever in LEVERS.values() for work in lever.works} == set(WORKS)


def test_an_ablation_is_written_after_every_timing_and_goes_on(material: Material, tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    results = ablate(["further-trial"], material, TINY, 2, "float32", path)
    turns = [(None, 0), ("loaded-once", 0), (None, 1), ("loaded-once", 1)]
    assert [(t["lever"], t["repeat"]) for t in results["timings"]] == turns
    assert json.loads(path.read_text()) == results
    assert ablate(["further-trial"], material, TINY, 2, "float32", path) == results


def test_the_table_says_how_many_times_faster_a_lever_makes_a_work() -> None:
    timings = [
        {"work": "lora", "lever": lever, "repeat": repeat, "seconds": seconds}
        for lever, seen in ((None, (10.0, 20.0, 30.0)), ("fused", (15.0, 40.0, 45.0)))
        for repeat, seconds in enumerate(seen)
    ]
    lines = write_ablation({"machine": MACHINE, "size": vars(TINY), "timings": timings}).splitlines()
    assert lines[2].split(" | ")[1:] == ["LoRA, 2 steps", "20.0 (10.0-30.0)", "40.0 (15.0-45.0)", "2.00 (1.50-2.00) |"]
    assert lines[-1] == "made-up, 2 threads; torch 2.0."


@pytest.mark.parametrize("work", list(PROFILED))
def test_seconds_by_kind_add_up_to_the_whole(work: str, material: Material) -> None:
    found = PROFILED[work][1](material, load_model(material.place, "float32"), TINY)
    assert sum(found["kinds"].values()) == pytest.approx(found["seconds"])
    assert found["kinds"]["products of linear layers"] > 0
    assert (found["kinds"]["AdamW"] > 0) == (work != "score")
    head, _, first, *_ = write_kinds({"machine": MACHINE, "size": vars(TINY), "works": {work: found}}).splitlines()
    assert PROFILED[work][0].format(**vars(TINY)) in head and first.startswith("| products of linear layers | ")


def test_the_demos_table_has_medians_of_its_repeats_and_their_ratio() -> None:
    seconds = {"before": [80.0, 100.0, 90.0], "after": [40.0, 40.0, 60.0]}
    timings = [{"side": s, "repeat": r, "seconds": x} for s, xs in seconds.items() for r, x in enumerate(xs)]
    machine = {"processor": "made-up", "threads": 2, "packages": {}}
    table = write_demo({"comparisons": [{"before": "a1", "after": "b2", "machine": machine, "timings": timings}]})
    # 90 over 40; side by side 80 / 40, 100 / 40 and 90 / 60.
    assert "| made-up | a1 and b2 | 90.0 (80.0-100.0) | 40.0 (40.0-60.0) | 2.25 (1.50-2.50) |" in table
    assert "products at the peak" not in table
    looked_at = {"fit": 20.0, "score": 15.0, "rest": 5.0, "products_at_peak": 12.0, "peak_gflops": 500.0}
    timings = [t | looked_at if t["side"] == "after" else t for t in timings]
    table = write_demo({"comparisons": [{"before": "a1", "after": "b2", "machine": machine, "timings": timings}]})
    assert "| made-up | b2 | 40.0 | 20.0 | 15.0 | 5.0 | 12.0 | 45.0 |" in table


def test_a_demos_products_are_those_of_its_tokens_a_backward_pass_where_there_was_a_fit() -> None:
    axes = make_axes("vanilla", "m", "t", shots=16, data_seed=0, fit_seed=0)

    def at_peak(trained: int, phases: dict[str, float], workers: int = 1) -> dict[str, float]:
        cost = Cost(
            fit_seconds=None,
            predict_seconds=None,
            peak_memory_bytes=None,
            trainable_parameters=trained,
            total_parameters=None,
            fit_tokens=100,
            predict_tokens=1000,
        )
        ran = {"workers": workers}
        record = Record(trial_id="t", trial=axes, status="done", phase_seconds=phases, cost=cost, environment=ran)
        return describe_run([record, record], seconds=50.0, peak=0.1, parameters=10**6)

    fitted = {"fit": 10.0, "score": 5.0, "load": 1.0}
    # Forward 2 a weight and token, for inputs' gradients as much, for the weights' as much again where all train.
    assert at_peak(3 * 10**6, fitted) == {
        "peak_gflops": 0.1,
        "seconds": 50.0,
        "fit": 20.0,
        "score": 10.0,
        "rest": 20.0,
        "products_at_peak": 2 * (20 + 6.0),
    }
    # Of two workers side by side, each second is half a second of the machine's.
    assert at_peak(1, fitted, workers=2)["rest"] == 35.0
    assert at_peak(10**5, fitted)["products_at_peak"] == pytest.approx(2 * (20 + 4.2))
    assert at_peak(577, {"score": 5.0})["products_at_peak"] == pytest.approx(2 * (20 + 2))


def test_every_operation_has_one_kind() -> None:
    assert sort_operation("aten::addmm") == "products of linear layers"
    assert sort_operation("aten::something_new") == REST
    names = [name for kind in KINDS.values() for name in kind]
    assert len(names) == len(set(names))


def test_an_exponent_and_its_standard_error_are_those_of_the_least_squares_line() -> None:
    assert fit_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx((2.0, 0.0), abs=1e-6)
    # Logarithms to base 2 are (0, 0), (1, 1), (2, 3): slope 3/2, residuals 1/6, -1/3, 1/6, so a standard error of
    # sqrt((1/6) / 1 / 2).
    assert fit_exponent([1, 2, 4], [1, 2, 8]) == pytest.approx((1.5, (1 / 12) ** 0.5))


@pytest.mark.parametrize("work", list(SCALED))
def test_a_point_has_seconds_and_the_bytes_of_its_shapes(work: str, material: Material) -> None:
    model = load_model(material.place, "float32")
    found = measure_point(Point("tokens", 12, work, epochs=2), material, model)
    assert found["seconds"] > 0 and found["first_seconds"] > 0
    block = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
    body = 400 * 32 + 3 * block + 32
    rows_read = len({token for row in draw_rows(12, model) for token in row})
    adapters = 3 * 8 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))
    expected = {
        "all-weights": 4 * 400 * 32 + BYTES_A_TRAINED * (body - 400 * 32 + rows_read * 32 + 2 * 32),
        "lora": 4 * body + BYTES_A_TRAINED * (adapters + 2 * 32),
        # Two frozen blocks below, and what they put out for 16 rows of 12 tokens.
        "last-blocks": 4 * (400 * 32 + 2 * block) + BYTES_A_TRAINED * (block + 32 + 2 * 32) + 4 * 16 * 12 * 32,
        SCORING: 4 * body,
    }
    assert found["computed_bytes"] == expected[work]


@pytest.mark.parametrize("work", CURVES["labels"].works)
def test_labels_are_as_many_as_asked_and_their_words_as_long(work: str, material: Material) -> None:
    words = [f" {word}" for word in ("good", "bad", "poor", "fine", "dull", "rich")]
    given = relabel(material, words, 3, 2)
    assert given.task.labels == ("l0", "l1", "l2")
    assert given.task.patterns[0].label_words == (" good bad", " poor fine", " dull rich")
    assert [row.label for row in given.draw.support[:4]] == [0, 1, 2, 0]
    assert given.draw.support[1].fields == material.draw.support[1].fields
    found = measure_point(Point("labels", 3, work, epochs=2), given, load_model(material.place, "float32"))
    assert found["seconds"] > 0


def test_a_cut_model_is_its_first_blocks(material: Material) -> None:
    model = load_model(material.place, "float32")
    cut = cut_blocks(material.place, model, 1)
    block = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
    assert model.total_parameters - cut.total_parameters == 2 * block
    assert measure_point(Point("blocks", 1, "last-blocks", epochs=2), material, cut)["seconds"] > 0


def fake_point(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds that double with the value; memory that cannot be measured for LoRA."""
    seconds = request["value"] / 10
    peak = None if request["work"] == "lora" else 2**20 * request["value"]
    return {
        "seconds": seconds,
        "first_seconds": 2 * seconds,
        "peak_memory_bytes": peak,
        "computed_bytes": 2**21,
        "precision": "bfloat16",
    }


def test_a_sweep_goes_on_and_its_table_and_chart_show_it(tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    results = sweep(["tokens"], 3, 2, path, fake_point)
    assert len(results["points"]) == len(CURVES["tokens"].values) * 4
    asked: list[dict[str, Any]] = []
    results = sweep(["tokens", "blocks"], 3, 2, path, lambda request: asked.append(request) or fake_point(request))
    assert {request["curve"] for request in asked} == {"blocks"}
    text = write_tables(results)
    assert "| tokens a row (one step, or scoring, of 16 rows) | LoRA | 1.00 ± 0.00 | – |" in text
    assert "| 32 | all weights | 3.2 | 6.4 | 32 | 2 |" in text
    assert "| 32 | LoRA | 3.2 | 6.4 | – | 2 |" in text
    svg = ElementTree.fromstring(draw_scaling(results))
    words = " ".join(svg.itertext())
    assert all(name in words for name in ("all weights", "last 4 blocks", "peak memory, MiB", "blocks of the model"))
    assert "LoRA from 1.6 s at 16 to 51.2 s at 512" in words


def test_agreement_counts_equal_predictions_and_the_margins_of_the_others() -> None:
    rows = [Example(f"r{i}", {}, label) for i, label in enumerate((0, 0, 1, 1))]
    theirs = np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    ours = np.log([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.7, 0.3]])
    found = compare(ours, theirs, rows)
    assert (found.accuracy_ours, found.accuracy_plain, found.equal_share) == (0.5, 0.75, 0.75)
    assert found.largest_difference == pytest.approx(np.log(2))
    assert found.changed_margins == pytest.approx([np.log(1.5)])


@pytest.mark.parametrize(
    ("ours", "equal", "reached"), [(0.81, 0.98, True), (0.80, 0.98, True), (0.83, 1.0, False), (0.82, 0.97, False)]
)
def test_a_check_is_reached_within_a_point_and_at_98_percent(ours: float, equal: float, reached: bool) -> None:
    assert is_reached({"accuracy_ours": ours, "accuracy_plain": 0.81, "equal_share": equal}) == reached


def test_both_paths_of_every_check_agree_on_a_tiny_model(material: Material, tmp_path: Path) -> None:
    size = AgreementSize(rows=20, queries=8, demonstrations=4, shots=8, batch_size=4, epochs=2)
    model: LanguageModel = load_model(material.place, "float32")
    given = replace(material, size=size.of_race())
    results = check(list(CHECKS), given, model, size, tmp_path / "agreement.json")
    assert [found["check"] for found in results["checks"]] == list(CHECKS)
    for found in results["checks"]:
        assert found["equal_share"] == 1.0 and found["largest_difference"] < 1e-3, found["check"]
    np.testing.assert_allclose(results["checks"][2]["losses_ours"], results["checks"][2]["losses_plain"], atol=1e-4)
    assert len(results["checks"][2]["losses_ours"]) == 4
    lines: Sequence[str] = write_agreement(results).splitlines()
    assert len(lines) == 2 + len(CHECKS) + 2 and all(line.endswith("| yes |") for line in lines[2:5])


def test_requests_one_by_one_and_at_once_are_counted_and_answered_alike(tmp_path: Path) -> None:
    texts = ["came early and whole", "crushed and wet", "a pleasure", "it stopped"]
    fewtune.fit(texts, ["praise", "complaint"] * 2, "tfidf").save(tmp_path / "model")
    found = measure_serving(tmp_path / "model", {"one_by_one": texts[:2], "at_once": texts * 5}, turns=1)
    assert [(t["way"], t["requests"]) for t in found["timings"]] == [("one_by_one", 2), ("at_once", 20)]
    assert found["answers"]["at_once"] == {"rows": 20, "same_labels": 20, "largest_difference": 0.0}


def test_served_answers_are_set_beside_those_of_predict() -> None:
    found = compare_served(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.9, 0.1], [0.45, 0.55]]))
    assert found == {"rows": 2, "same_labels": 1, "largest_difference": pytest.approx(0.15)}


def test_the_table_of_serving_has_requests_a_second_and_their_ratio() -> None:
    seconds = {"one_by_one": (10.0, 5.0, 20.0), "at_once": (8.0, 5.0, 10.0)}
    requests = {"one_by_one": 50, "at_once": 200}
    timings = [
        {"way": way, "turn": turn, "requests": requests[way], "seconds": each}
        for way, all_seconds in seconds.items()
        for turn, each in enumerate(all_seconds)
    ]
    answers = {"at_once": {"rows": 200, "same_labels": 199, "largest_difference": 0.0123}}
    results = {"machine": MACHINE, "size": requests, "methods": {"lora": {"timings": timings, "answers": answers}}}
    line = write_serve(results).splitlines()[2]
    # 25 over 5 a second; turn by turn 25 / 5, 40 / 10 and 20 / 2.5.
    expected = "| lora | 5.0 (2.5-10.0) | 25.0 (20.0-40.0) | 5.00 (4.00-8.00) | 199 of 200 | 0.0123 |"
    assert line == expected


def test_a_process_apart_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match="No module named"):
        run_apart("benchmarks.nowhere", {"work": "lora"})
