"""Each rule fires on the case it was seen in, rebuilt as data, and is silent on a clean study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fewtune.analysis.audit.audit import RULES, audit, has_errors
from fewtune.analysis.audit.finding import Evidence, Finding
from fewtune.analysis.audit.measurement import list_unlike_parts
from fewtune.analysis.predictions import AnswerReader
from fewtune.records import Failure, Notes, Record, load_predictions, load_records, write_record
from study_maker import make_study

ACCURACIES = {"pattern": [0.85, 0.82, 0.86], "lora": [0.80, 0.81, 0.78], "majority": [0.5, 0.5, 0.5]}
GROUP = {"name": "all weights", "tensors": 12, "parameters": 100, "peak_learning_rate": 2e-5, "rates": [1e-5, 2e-5]}


def make_clean(out: Path, **options: Any) -> list[Record]:
    """A study that went well: losses of each trial's own, rates above zero, label words that differ."""
    records = make_study(out, options.pop("accuracies", ACCURACIES), **options)
    return [revise(out, record, **clean_notes(record)) for record in records]


def clean_notes(record: Record) -> dict[str, Any]:
    if record.trial.model is None or record.status != "done":
        return {}
    seed = 10 * record.trial.data_seed + record.trial.fit_seed + len(record.trial.variant)
    return {
        "fit": {"losses": [0.7 - 0.001 * seed, 0.3 + 0.002 * seed], "groups": [GROUP]},
        "prompt": {"label_words": [" bad", " good"], "label_word_tokens": [[4], [9, 2]], "splits_cleanly": True},
        "references": {name: refer(accuracy) for name, accuracy in (("teacher", 0.8), ("untaught_student", 0.7))},
    }


def refer(accuracy: float) -> dict[str, Any]:
    return {"metrics": {"in_domain": {"accuracy": accuracy}}}


def revise(out: Path, record: Record, settings: dict[str, Any] | None = None, **notes: Any) -> Record:
    """The record with other settings and notes, a part of the notes at a time; what a part does not name stays."""
    whole = record.notes.model_dump()
    for name, part in notes.items():
        whole[name] = {**whole[name], **part} if isinstance(part, dict) and isinstance(whole[name], dict) else part
    trial = record.trial.model_copy(update={"settings": {**record.trial.settings, **(settings or {})}})
    changed = record.model_copy(update={"notes": Notes.model_validate(whole), "trial": trial})
    write_record(out, changed)
    return changed


def change(out: Path, record: Record, predictions: pl.DataFrame | None = None, **fields: Any) -> None:
    write_record(out, record.model_copy(update=fields), predictions)


def find(out: Path, missing: dict[str, int] | None = None) -> list[Finding]:
    return audit(Evidence(tuple(load_records(out)), AnswerReader(partial(load_predictions, out)), missing or {}))


def rules_of(findings: list[Finding]) -> set[str]:
    return {finding.rule for finding in findings}


def test_a_clean_study_is_silent(tmp_path: Path) -> None:
    make_clean(tmp_path, out_of_domain={"amazon": -0.05}, fit_seeds=2)
    assert find(tmp_path) == []


def test_draws_of_nearly_the_same_labelled_rows_are_told(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        revise(tmp_path, record, support_share=0.95)
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("single support", "warning")
    assert finding.reason.startswith("any two draws share 95 % of their labelled rows")
    for record in load_records(tmp_path):
        revise(tmp_path, record, support_share=0.5)
    assert find(tmp_path) == [], "half of them is allowed for"


def test_a_finding_about_a_group_names_its_model(tmp_path: Path) -> None:
    for model in ("alpha", "beta"):
        make_clean(tmp_path, accuracies={"pattern": [0.85], "lora": [0.8], "tfidf": [0.6]}, model=model)
    found = [finding.where for finding in find(tmp_path) if finding.rule == "single draw"]
    assert found == ["sentiment · alpha · 16 shots", "sentiment · beta · 16 shots"]


def test_equal_losses_with_other_scores_of_rows_are_no_repeated_run(tmp_path: Path) -> None:
    for record in make_clean(tmp_path, accuracies={"pattern": [0.85, 0.85, 0.85], "lora": [0.8, 0.81, 0.79]}):
        if record.trial.variant == "pattern":
            revise(tmp_path, record, fit={"losses": [0.5]})
    assert find(tmp_path) == []


def test_ten_runs_that_are_two_are_told(tmp_path: Path) -> None:
    records = make_clean(tmp_path, accuracies={"pattern": [0.85] * 10, "lora": [0.8] * 10})
    ten = [record for record in records if record.trial.variant == "pattern"]
    answers = [load_predictions(tmp_path, record.trial_id) for record in ten[:2]]
    for index, record in enumerate(ten):
        change(tmp_path, revise(tmp_path, record, fit={"losses": [0.7, 0.3 + index % 2]}), answers[index % 2])
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity, len(finding.trials)) == ("identical runs", "error", 10)
    assert "10 fits with different seeds are 2 distinct" in finding.reason
    assert finding.where == "pattern · sentiment · tiny-model · 16 shots"


def test_methods_that_fit_nothing_may_repeat_themselves(tmp_path: Path) -> None:
    records = make_clean(tmp_path, accuracies={"in_context": [0.8, 0.8], "lora": [0.7, 0.7]}, fit_seeds=2)
    for record in records:
        if record.trial.variant == "in_context":
            change(tmp_path, record, notes=Notes())
    assert find(tmp_path) == []


def test_seeds_that_drew_the_same_rows_are_told(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        change(tmp_path, record, fingerprints={"draw": "the same"})
    assert [finding.rule for finding in find(tmp_path)] == ["repeated draws"]


def test_methods_that_saw_other_rows_are_told(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        if record.trial.variant == "lora" and record.trial.data_seed == 1:
            change(tmp_path, record, fingerprints={"draw": "another"})
    [finding] = find(tmp_path)
    assert finding.rule == "unlike draws"
    assert "under data seed 1" in finding.reason and "lora" in finding.reason


def test_decay_that_changes_nothing_is_told(tmp_path: Path) -> None:
    """Result files with and without decayed rates were identical in the published study."""
    records = make_clean(tmp_path, accuracies={"adaptive": [0.8, 0.81], "adaptive-decayed": [0.8, 0.81]})
    plain = {r.trial.data_seed: r for r in records if r.trial.variant == "adaptive"}
    for record in records:
        if record.trial.variant == "adaptive-decayed":
            twin = plain[record.trial.data_seed]
            trial = record.trial.model_copy(update={"settings": {**record.trial.settings, "decay": 0.9}})
            change(tmp_path, record, load_predictions(tmp_path, twin.trial_id), notes=twin.notes, trial=trial)
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("settings without effect", "error")
    assert "adaptive and adaptive-decayed differ in decay" in finding.reason


def test_rates_that_do_not_decay_are_told(tmp_path: Path) -> None:
    blocks = [{**GROUP, "name": f"block {n}"} for n in (11, 10)]
    for record in make_clean(tmp_path):
        if record.trial.variant == "lora":
            revise(tmp_path, record, settings={"decay": 0.95}, fit={"groups": blocks})
    assert [finding.rule for finding in find(tmp_path)] == ["decay not applied"]


def test_of_rows_that_were_shown_and_tested_each_number_stands_at_its_own_set(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        rows = load_predictions(tmp_path, record.trial_id)["row_id"].to_list()[:2]
        revise(tmp_path, record, demonstrations={"rows": [*rows, "a", "b", "c"], "log_prior": [0.0, 0.0]})
    reasons = [finding.reason for finding in find(tmp_path) if finding.rule == "shared rows"]
    assert reasons and "demonstrations and in domain share rows: 2 of 5 and 400 by their ids" in reasons[0]


def test_out_of_domain_rows_that_are_in_domain_rows_are_told(tmp_path: Path) -> None:
    """Published: CoLA's 516 out-of-domain rows are among the 1,043 in-domain ones."""
    for record in make_clean(tmp_path, out_of_domain={"other": 0.0}):
        rows = load_predictions(tmp_path, record.trial_id)
        ids = rows["row_id"].str.replace("other", "in_domain")
        change(tmp_path, record, rows.with_columns(ids.alias("row_id")))
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("shared rows", "error")
    assert "in domain and other share rows: 400 of 400 and 400 by their ids" in finding.reason


def test_demonstrations_that_are_test_rows_are_told(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        if record.trial.variant == "pattern":
            revise(
                tmp_path,
                record,
                demonstrations={"rows": [f"in_domain-{record.trial.data_seed}-00003"], "log_prior": []},
            )
    [finding] = find(tmp_path)
    assert finding.rule == "shared rows"
    assert "demonstrations and in domain" in finding.reason


def test_texts_that_a_trial_found_in_two_sets_are_told(tmp_path: Path) -> None:
    shared = {"sets": ["support", "in_domain"], "rows": 3, "exact": 1, "example": ["train/4", "test/7"]}
    for record in make_clean(tmp_path):
        revise(tmp_path, record, shared_rows=[shared])
    [finding] = find(tmp_path)
    assert "support and in domain share rows: 3 rows of in domain, 1 of them to the letter" in finding.reason
    assert "train/4 and test/7" in finding.reason


def test_a_study_in_which_nothing_beats_the_majority_is_an_error(tmp_path: Path) -> None:
    """Published: no CoLA result beats the majority label."""
    make_clean(tmp_path, accuracies={"vanilla": [0.48, 0.5], "pattern": [0.49, 0.5]})
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("at the majority", "error")
    assert "in domain, accuracy 0.500: all methods (pattern 0.495, vanilla 0.490)" in finding.reason


def test_one_method_or_a_test_set_at_the_majority_is_a_warning(tmp_path: Path) -> None:
    """Published: every HANS mean is chance."""
    make_clean(tmp_path, accuracies={"vanilla": [0.7, 0.72], "pattern": [0.6, 0.65]}, out_of_domain={"hans": -0.25})
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("at the majority", "warning")
    assert finding.reason.endswith("on hans, accuracy 0.500: all methods (pattern 0.375, vanilla 0.460)")


def test_scores_that_equal_the_majority_to_rounding_are_at_it(tmp_path: Path) -> None:
    # As sums of floats, 0.65 - 0.75 and 0.81 - 0.71 are a hair above 0.
    for record in make_clean(tmp_path, accuracies={"vanilla": [0.65, 0.81], "pattern": [0.9, 0.92]}, rows=100):
        baselines = {"in_domain": {"majority": (0.75, 0.71)[record.trial.data_seed], "chance": 0.5}}
        change(tmp_path, record, baselines=baselines)
    [finding] = find(tmp_path)
    assert finding.reason.endswith("in domain, accuracy 0.730: vanilla 0.730")


def test_scores_that_predictions_do_not_give_are_an_error(tmp_path: Path) -> None:
    """A newcomer's damage: one score edited, another trial's predictions copied over its own."""
    records = {(r.trial.variant, r.trial.data_seed): r for r in make_clean(tmp_path)}
    edited, swapped = records["lora", 1], records["pattern", 2]
    change(tmp_path, edited, metrics={"in_domain": {**edited.metrics["in_domain"], "accuracy": 0.99}})
    change(tmp_path, swapped, load_predictions(tmp_path, records["lora", 0].trial_id))
    lora, pattern = sorted((f for f in find(tmp_path) if f.rule == "other answers"), key=lambda f: f.where)
    assert (lora.severity, lora.trials) == ("error", (edited.trial_id,))
    assert "1 trial with scores that the predictions beside do not give (in domain, accuracy 0.990" in lora.reason
    assert pattern.trials == (swapped.trial_id,) and "accuracy 0.860 recorded and 0.800 by its rows" in pattern.reason


def test_a_teacher_with_nothing_to_teach_is_an_error(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        if record.trial.variant == "pattern":
            revise(tmp_path, record, references={"teacher": refer(0.7), "untaught_student": refer(0.7)})
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("idle teacher", "error")
    assert "0.700 over 3 trials, is not above the untaught student's, 0.700" in finding.reason


def test_methods_that_learnt_from_rows_without_labels_are_told_beside_others_that_did_not(tmp_path: Path) -> None:
    records = make_clean(tmp_path)
    taught = {"model": "tiny-model", "contexts": [], "rows_labelled": 16}
    for record in records:  # as records of old tell it: more rows taught than have a label
        if record.trial.variant == "pattern":
            revise(tmp_path, record, teacher=taught | {"rows_taught": 16})
    assert find(tmp_path) == [], "of the support alone"
    for record in records:
        if record.trial.variant == "pattern":
            revise(tmp_path, record, teacher=taught | {"rows_taught": 17})
        if record.trial.variant == "lora":
            revise(tmp_path, record, unlabelled="scored")
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("unlabelled rows", "note")
    assert finding.where == "sentiment · tiny-model · 16 shots"
    assert finding.reason == (
        "pattern learnt from rows without labels too, which the others did not see; "
        "lora answered the test rows together, and one row alone otherwise"
    )
    assert len(finding.trials) == 6


def test_defaults_that_were_chosen_on_this_task_or_from_unequally_many_are_told(tmp_path: Path) -> None:
    records = make_clean(tmp_path)
    for record in records:
        if record.trial.model is not None:
            revise(
                tmp_path,
                record,
                defaults_tried={"cola": 8, "another": 6} if record.trial.variant == "lora" else {"cola": 4},
            )
    assert find(tmp_path) == [], "chosen elsewhere, from no more than twice as many on any task"
    for record in records:
        if record.trial.variant == "lora":
            revise(tmp_path, record, defaults_tried={"sentiment": 9})
    here, unequal = find(tmp_path)
    assert (here.rule, here.severity) == ("defaults of this task", "note") and len(here.trials) == 3
    assert here.reason == "the defaults of lora were chosen on this task's training rows"
    assert (unequal.rule, unequal.severity) == ("unequal defaults", "note") and len(unequal.trials) == 6
    assert unequal.reason == "defaults were chosen from unequally many settings: lora 9, pattern 4"
    for record in records:
        if record.trial.variant == "lora":
            revise(tmp_path, record, defaults_tried={"sentiment": 0})
    [unequal] = find(tmp_path)
    assert unequal.reason == "defaults were chosen from unequally many settings: pattern 4, lora 0"


def test_one_label_for_every_row_is_told(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        if record.trial.variant == "lora" and record.trial.data_seed == 0:
            rows = load_predictions(tmp_path, record.trial_id)
            scores = {"in_domain": {**record.metrics["in_domain"], "accuracy": 0.5, "macro_f1": 1 / 3, "mcc": 0.0}}
            change(tmp_path, record, rows.with_columns(pl.lit("positive").alias("predicted")), metrics=scores)
    [finding] = find(tmp_path)
    assert finding.rule == "one answer"
    assert "1 of 3 trials gave every row" in finding.reason


def test_losses_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    """Published: the distillation loss is NaN. Such a trial fails here, and JSON writes NaN as null."""
    records = make_clean(tmp_path)
    lora = next(record for record in records if record.trial.variant == "lora")
    failure = Failure(kind="diverged", message="loss is not finite at step 3")
    write_record(tmp_path, lora.model_copy(update={"status": "failed", "failure": failure, "metrics": {}}))
    pattern = next(record for record in records if record.trial.variant == "pattern")
    revise(tmp_path, pattern, fit={"losses": [0.7, None]})
    found = find(tmp_path)
    assert rules_of(found) == {"losses not finite", "missing trials"}
    assert {f.where.split(" · ")[0] for f in found if f.rule == "losses not finite"} == {"lora", "pattern"}


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"name": "decayed", "tensors": 0, "rates": [1e-5]}, "decayed matched no tensor"),
        ({"name": "head", "tensors": 2, "rates": [0.0, 0.0]}, "head never had a learning rate above 0"),
    ],
)
def test_groups_without_effect_are_an_error(tmp_path: Path, group: dict[str, Any], words: str) -> None:
    """Published: the rule for decayed rates looked for `layer` in names spelled `layers`."""
    for record in make_clean(tmp_path):
        if record.trial.variant == "pattern":
            revise(tmp_path, record, fit={"groups": [GROUP, {**GROUP, **group}]})
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("groups without effect", "error")
    assert words in finding.reason


@pytest.mark.parametrize("rates", [{"adapter": 1e-5}, {"adapter A": 2e-5, "adapter B": 8e-5}])
def test_an_adapter_at_the_rate_of_all_weights_is_told(tmp_path: Path, rates: dict[str, float]) -> None:
    for record in make_clean(tmp_path):
        if record.trial.variant == "lora":
            adapters = [{**GROUP, "name": name, "peak_learning_rate": rate} for name, rate in rates.items()]
            revise(tmp_path, record, settings={"rank": 8}, fit={"groups": adapters})
    [finding] = find(tmp_path)
    assert finding.rule == "low adapter rate"
    assert f"trained at {max(rates.values()):g}" in finding.reason


def test_unequal_tuning_is_told(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        if record.trial.variant == "lora":
            tried = [{"settings": {}}] * 6
            tuned = {"folds": 2, "chosen": {}, "metric": "accuracy", "seconds": 1.0, "tried": tried}
            revise(tmp_path, record, tuning=tuned)
    [finding] = find(tmp_path)
    assert finding.rule == "unequal tuning"
    assert "pattern: 1 fit to choose from; lora: 12 fits to choose from" in finding.reason


@pytest.mark.parametrize("tokens", [[[5], [5]], [[5], [5, 7]]])
def test_label_words_that_cannot_be_told_apart_are_an_error(tmp_path: Path, tokens: list[list[int]]) -> None:
    for record in make_clean(tmp_path):
        revise(tmp_path, record, prompt={"label_word_tokens": tokens})
    found = [f for f in find(tmp_path) if f.where.startswith("pattern")]
    assert [(f.rule, f.severity) for f in found] == [("label words", "error")]


def test_label_words_read_as_other_tokens_are_told(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        revise(tmp_path, record, prompt={"splits_cleanly": False})
    assert {(f.rule, f.severity) for f in find(tmp_path)} == {("label words", "warning")}


@pytest.mark.parametrize(("rows", "severity"), [(2, "note"), (40, "warning")])
@pytest.mark.parametrize("reader", ["prompt", "teacher"])
def test_cut_inputs_are_told_by_how_many_there_are(tmp_path: Path, rows: int, severity: str, reader: str) -> None:
    cut: dict[str, Any] = {"cut": {"rows": rows, "tokens": 90}}
    who = {} if reader == "prompt" else {"model": "m", "contexts": []}
    for record in make_clean(tmp_path):
        if record.trial.variant == "pattern":
            revise(tmp_path, record, **{reader: {**who, **cut}})
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("cut inputs", severity)
    assert ("as its teacher read them" in finding.reason) == (reader == "teacher")


def test_seconds_of_unlike_machines_are_told(tmp_path: Path) -> None:
    """Published: times of a T4 beside times of an L4."""
    for record in make_clean(tmp_path):
        gpu = "L4" if record.trial.variant == "lora" else "T4"
        change(tmp_path, record, environment={**record.environment, "device": gpu})
    [finding] = find(tmp_path)
    assert finding.rule == "unlike machines"
    assert "device: L4 against T4" in finding.reason


def test_draws_of_another_pace_are_told_whatever_the_machine_is_called(tmp_path: Path) -> None:
    """Seen here: two rented machines, both "AMD EPYC", the second 1.8 times as fast."""
    scores = {"pattern": [0.85, 0.82, 0.86], "lora": [0.80, 0.81, 0.78], "vanilla": [0.7, 0.72, 0.71]}
    for number, record in enumerate(make_clean(tmp_path, accuracies=scores)):
        seconds = (20.0 + number) * (1.8 if record.trial.data_seed == 1 else 1.0)
        assert record.cost is not None
        change(tmp_path, record, cost=record.cost.model_copy(update={"fit_seconds": seconds, "predict_seconds": 1.0}))
    [finding] = find(tmp_path)
    assert (finding.rule, finding.severity) == ("unlike pace", "warning")
    assert "in draw 1 methods took 1.7 times as long as in draw 0" in finding.reason or "1.8 times" in finding.reason


def test_one_slow_method_is_no_pace(tmp_path: Path) -> None:
    for record in make_clean(tmp_path, accuracies={**ACCURACIES, "vanilla": [0.7, 0.72, 0.71]}):
        if (record.trial.variant, record.trial.data_seed) == ("lora", 1) and record.cost is not None:
            change(tmp_path, record, cost=record.cost.model_copy(update={"fit_seconds": 500.0}))
    assert find(tmp_path) == []


def test_one_name_for_two_models_is_an_error(tmp_path: Path) -> None:
    for record in make_clean(tmp_path):
        change(tmp_path, record, fingerprints={**record.fingerprints, "weights": record.trial.variant})
    assert [(f.rule, f.severity) for f in find(tmp_path)] == [("unlike weights", "error")]


def test_one_draw_is_told(tmp_path: Path) -> None:
    make_clean(tmp_path, accuracies={"pattern": [0.85], "lora": [0.8]})
    assert [(f.rule, f.severity) for f in find(tmp_path)] == [("single draw", "warning")]


def test_trials_that_failed_or_never_ran_are_told(tmp_path: Path) -> None:
    make_clean(tmp_path, failures={"bitfit": "no biases"})
    found = find(tmp_path, missing={"lora": 2})
    assert [f.where for f in found] == ["study", "bitfit · sentiment · tiny-model · 16 shots"]
    assert rules_of(found) == {"missing trials"}


def test_errors_stand_first_and_count(tmp_path: Path) -> None:
    records = make_clean(tmp_path, accuracies={"pattern": [0.85], "lora": [0.8]})
    assert not has_errors(find(tmp_path))
    for record in records:
        revise(tmp_path, record, prompt={"label_word_tokens": [[1], [1]]})
    found = find(tmp_path)
    assert [f.severity for f in found] == ["error", "error", "warning"]
    assert has_errors(found)


def test_every_rule_has_a_name_of_its_own_and_says_where_it_was_seen() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    fired: list[Callable[..., Any]] = [rule.find for rule in RULES]
    assert len(set(fired)) == len(RULES)
    assert all(rule.seen_in and rule.checks for rule in RULES)


def test_floors_that_use_no_model_are_no_unlike_place(tmp_path: Path) -> None:
    first, second, *_ = make_clean(tmp_path)
    alike = [each.model_copy(update={"environment": {"processor": "one"}}) for each in (first, second)]
    other = alike[1].model_copy(update={"environment": {"processor": "one", "max_tokens": 64, "model": "m"}})
    assert list_unlike_parts([alike[0], other]) == {}
    moved = alike[1].model_copy(update={"environment": {"processor": "two"}})
    assert list_unlike_parts([alike[0], moved]).keys() == {"processor"}
