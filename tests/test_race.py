"""Both sides of the race do the same work on a tiny model, its results are written whole, and missed ratios are marked.

No second is asserted: the race itself runs on an idle machine, by `make bench`.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks.race import classifier, harness, label_words, one_trial, ours, peak, sentences
from benchmarks.race.__main__ import race
from benchmarks.race.material import Material, draw_trial
from benchmarks.race.results import check_same_work, open_results
from benchmarks.race.table import write_seconds, write_table
from benchmarks.race.whole_study import describe_study, share_right
from benchmarks.race.works import FULL, METHODS, OURS, SMOKE, WORKS, Size, settings_of
from fewtune.engine.loading import load_model
from fewtune.methods import get_method
from fewtune.models import find_model
from fewtune.study import load_study
from fewtune.study.grid import list_trials
from fewtune.tasks.base import Draw, Task

TINY = Size(
    shots=8,
    epochs=2,
    batch_size=4,
    blocks=2,
    demonstrations=4,
    queries=6,
    pool_rows=6,
    teacher_steps=1,
    harness_trial_rows=2,
    study_epochs=1,
    study_shots=4,
    study_in_domain_rows=6,
    study_out_of_domain_rows=2,
    study_queries_of_peer=4,
)


@pytest.fixture(scope="module")
def material(model_folders: dict[str, Path], task: Task, draw: Draw) -> Material:
    return Material(find_model(str(model_folders["llama"])), task, draw, TINY)


@pytest.fixture(autouse=True)
def peers_may_warn() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peers' own making, as in a script of a user's
        yield


@pytest.mark.parametrize(
    ("work", "precision"),
    [("all-weights", "float32"), ("all-weights", "bfloat16"), ("lora", "float32"), ("last-blocks", "float32")],
)
def test_both_sides_fit_the_same_rows_in_as_many_steps(work: str, precision: Any, material: Material) -> None:
    one = ours.run_work(work, material, precision)
    other = classifier.run_work(work, material, precision)
    assert (one.rows_sha256, one.steps, one.tokens) == (other.rows_sha256, other.steps, other.tokens)
    assert one.steps == 4
    assert (one.model_flops is not None) == (work == "all-weights")


def test_both_sides_train_the_same_parameters(material: Material) -> None:
    for work in ("lora", "last-blocks"):
        network, _ = classifier.load_classifier(material)
        trained = classifier.choose_trained(work, network, settings_of(work, TINY))
        method = get_method(METHODS[work][0])
        settings = method.settings(**settings_of(work, TINY))
        model = load_model(material.place, "float32")
        plan = method.plan(settings, model, material.task, material.draw, material.rng())
        assert plan.trainable_parameters == sum(p.numel() for p in trained.parameters() if p.requires_grad), work


def test_both_sides_score_alike(material: Material) -> None:
    one = ours.run_work("score", material, "float32")
    other = classifier.run_work("score", material, "float32")
    assert (one.rows_sha256, one.accuracy) == (other.rows_sha256, other.accuracy)
    read, after = 32 * 32 + 32 * 16 * 2, 32 * 32 + 3 * 32 * 48  # query, key and value; what comes after attention
    assert one.tokens is not None
    assert one.model_flops == 2.0 * ((3 * read + 2 * after) * one.tokens + after * len(material.test_rows))


def test_the_harness_reads_the_same_demonstrations_and_answers_alike(material: Material) -> None:
    one, other = ours.run_work("in-context", material, "float32"), harness.answer_in_context(material)
    assert (one.rows_sha256, one.accuracy) == (other.rows_sha256, other.accuracy)
    assert other.notes["batch_size"] in harness.BATCH_SIZES


def test_the_distilling_peer_takes_fewtunes_steps_and_loss(material: Material) -> None:
    one, other = ours.run_work("distillation", material, "float32"), label_words.distil(material, "float32")
    assert (one.rows_sha256, one.steps, one.tokens) == (other.rows_sha256, other.steps, other.tokens)
    assert other.notes["scaled_from_steps"] == 1
    tokenizer = classifier.load_tokenizer(material, "left")
    rows = (*material.draw.support, *material.draw.pool)
    written = label_words.write_rows(material, tokenizer, rows, material.choose_shown(of_teacher=True))
    assert sum(row["teacher_ids"] is None for row in written) == TINY.demonstrations
    trainer = label_words.LabelWordTrainer(
        model=label_words.load_language_model(material),
        args=classifier.make_arguments({}, "float32"),
        words=label_words.find_words(material, tokenizer),
        teacher=label_words.load_language_model(material),
        alpha=0.5,
    )
    method = get_method("context_distillation")
    settings = method.settings(**settings_of("distillation", TINY))
    model = load_model(material.place, "float32")
    plan = method.plan(settings, model, material.task, material.draw, material.rng())
    assert plan.fitting is not None
    with torch.no_grad():
        expected = float(plan.fitting.loss(plan.fitting.examples).mean())
        found = float(trainer.compute_loss(trainer.model, label_words.Collator(tokenizer)(written)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.fixture(scope="module")
def encoders(model_folders: dict[str, Path], task: Task, draw: Draw) -> Material:
    return Material(find_model(str(model_folders["sentence-encoder"])), task, draw, replace(TINY, embedded_rows=70))


def test_both_sides_fit_an_encoder_on_the_same_rows(encoders: Material) -> None:
    one, other = ours.run_work("encoder", encoders, "float32"), classifier.run_work("encoder", encoders, "float32")
    assert (one.rows_sha256, one.steps, one.tokens) == (other.rows_sha256, other.steps, other.tokens)


def test_both_sides_score_the_same_rows_by_a_head_on_an_encoder(encoders: Material) -> None:
    one, other = (side.run_work("score-encoder", encoders, "float32") for side in (ours, classifier))
    assert one.rows_sha256 == other.rows_sha256 and one.accuracy is not None and other.accuracy is not None
    assert one.model_flops is None, "which only the share of the peak asks for"


def test_both_sides_embed_the_same_rows(encoders: Material) -> None:
    one, other = sentences.embed_with_fewtune(encoders, "float32"), sentences.embed_with_sentence_transformers(encoders)
    assert one.rows_sha256 == other.rows_sha256 and one.notes["rows"] == other.notes["rows"] == 70
    assert one.notes["norm"] == pytest.approx(1) == other.notes["norm"]
    texts = [" ".join(row.fields.values()) for row in sentences.write_rows(encoders)]
    assert len(set(texts)) == 70


def test_both_sides_learn_as_many_pairs_in_as_many_steps(encoders: Material) -> None:
    one, other = sentences.fit_with_fewtune(encoders, "float32"), sentences.fit_with_setfit(encoders)
    assert (one.rows_sha256, one.steps) == (other.rows_sha256, other.steps)


@pytest.mark.parametrize("method", FULL.study_methods)
def test_a_trial_of_the_peers_study_runs(method: str, material: Material) -> None:
    drawn = replace(material, draw=draw_trial(material.task, TINY, 0))
    found = one_trial.run_trial(method, drawn)
    assert found["rows"] == 8
    assert found["rows_scored"] == (4 if method == "in_context" else 8)


@pytest.mark.parametrize(("size", "trials"), [(FULL, 40), (SMOKE, 2)])
def test_the_study_is_one_that_fewtune_runs(size: Size, trials: int, tmp_path: Path) -> None:
    path = tmp_path / "race.yaml"
    path.write_text(json.dumps(describe_study(size)))
    assert len(list_trials(load_study(path))) == trials


def test_the_peak_is_the_best_of_the_shapes(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SQUARES", (8,))
    monkeypatch.setattr(peak, "ROWS", (4,))
    for found in peak.measure_peak(material.place).values():
        assert found["best"] == max(found["by_shape"].values())
        assert "4x32x48" in found["by_shape"]


class FakeSides:
    """Sides whose seconds are set by the test; `order` is who ran."""

    def __init__(self, seconds: dict[str, float], fails_at: int | None = None) -> None:
        self.seconds, self.fails_at = seconds, fails_at
        self.order: list[str] = []
        self.peaks = [400.0, 500.0]  # one after each timing of fewtune's

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["work"] == "peak":
            return {"bfloat16": {"best": self.peaks.pop(0), "by_shape": {}}}
        if len(self.order) == self.fails_at:
            raise KeyboardInterrupt
        self.order.append(request["side"])
        return {
            "seconds": self.seconds[request["side"]],
            "precision": request["precision"] or "bfloat16",
            "rows_sha256": "same",
            "steps": 40,
            "threads": request["threads"],
            "model_flops": 1e13,
            "notes": {},
        }


def test_sides_alternate_and_an_interrupted_race_goes_on(tmp_path: Path) -> None:
    path, seconds = tmp_path / "race.json", {"Trainer + PEFT float32": 40.0, OURS: 10.0}
    with pytest.raises(KeyboardInterrupt):
        race(["lora"], TINY, 2, 2, path, FakeSides(seconds, fails_at=3))
    assert len(json.loads(path.read_text())["timings"]) == 3
    rest = FakeSides(seconds)
    results = race(["lora"], TINY, 2, 2, path, rest)
    assert rest.order == [OURS]
    assert json.loads(path.read_text()) == results
    assert [t["side"] for t in results["timings"]] == ["Trainer + PEFT float32", OURS] * 2
    again = FakeSides(seconds)
    race(["lora"], TINY, 1, 2, path, again, again=True)
    assert again.order == ["Trainer + PEFT float32", OURS]


def test_timings_of_another_machine_or_size_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "race.json"
    machine = race(["lora"], TINY, 1, 2, path, FakeSides({"Trainer + PEFT float32": 4.0, OURS: 1.0}))["machine"]
    assert len(open_results(path, machine, asdict(TINY))["timings"]) == 2
    assert open_results(path, {**machine, "processor": "another"}, asdict(TINY), timings=[])["timings"] == []
    assert open_results(path, machine, asdict(FULL), timings=[])["timings"] == []


def test_seconds_below_one_keep_what_tells_them_apart() -> None:
    assert write_seconds([{"seconds": s} for s in (0.034, 0.5, 0.041)]) == "0.04 (0.03-0.50)"
    assert write_seconds([{"seconds": 12.34}]) == "12.3"


def test_the_table_says_which_ratios_were_missed(tmp_path: Path) -> None:
    seconds = {"Trainer float32": 120.0, "Trainer bfloat16": 60.0, OURS: 40.0}
    lines = write_table(race(["all-weights"], TINY, 2, 2, tmp_path / "race.json", FakeSides(seconds))).splitlines()
    rows = {peer.name: next(line for line in lines if peer.name in line) for peer in WORKS["all-weights"].peers}
    assert "3.00 (3.00-3.00)" in rows["Trainer float32"] and rows["Trainer float32"].endswith("yes")
    assert "1.50 (1.50-1.50)" in rows["Trainer bfloat16"] and rows["Trainer bfloat16"].endswith("no")
    assert "matrix-product peak: bfloat16 450 (400-500) GFLOP/s" in lines
    told = "250 (250-250) of 450 (400-500) GFLOP/s in bfloat16, a share of 0.56 (0.50-0.62); to reach 0.55: yes"
    assert lines[-1].endswith(told)


def test_the_table_says_where_a_scaled_studys_seconds_go(tmp_path: Path) -> None:
    peer = WORKS["study"].peers[0].name
    results = race(["study"], TINY, 3, 2, tmp_path / "race.json", FakeSides({peer: 90.0, OURS: 40.0}))
    assert len(results["timings"]) == 2, "the study is timed once, however often the rest is"
    results["timings"][0]["notes"] = {"scaled_from_trials": 5, "seconds_by_method": {"lora": 60.0, "probe": 30.0}}
    results["timings"][1]["notes"] = {"seconds_by_method": {"lora": 30.0, "probe": 8.0}}
    lines = write_table(results).splitlines()
    assert any("90.0 scaled" in line and line.endswith("no") for line in lines)
    assert lines[-1].endswith("lora 60 / 30, probe 30 / 8")


def test_sides_that_did_other_work_are_refused() -> None:
    timings = [{"work": "lora", "side": side, "rows_sha256": "same", "steps": n} for side, n in (("a", 40), (OURS, 39))]
    with pytest.raises(ValueError, match="differ in steps"):
        check_same_work(timings)


def test_a_trials_accuracy_is_over_all_of_its_rows() -> None:
    assert share_right(pl.DataFrame({"gold": ["a", "b", "a", "b"], "predicted": ["a", "b", "b", "b"]})) == 0.75
