"""The audit of a study: every rule, over its records.

Owns the table of rules and the order of what they find. Does not know how a finding is shown (`report`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fewtune.analysis.audit import (
    defaults,
    fitting,
    inputs,
    measurement,
    predictions,
    race_looks,
    repetition,
    scores,
    thresholds,
    unsound,
)
from fewtune.analysis.audit.finding import SEVERITIES, Evidence, Finding, Rule

PAPER = "arXiv 2405.13181"

RULES: tuple[Rule, ...] = (
    Rule(
        "identical runs",
        "fits with different seeds are different fits",
        f"{PAPER}: ten runs that are two",
        repetition.find_identical_runs,
    ),
    Rule(
        "repeated draws",
        "different data seeds drew different rows",
        f"{PAPER}: the seed set again inside the trainer",
        repetition.find_repeated_draws,
    ),
    Rule(
        "unlike draws",
        "methods that are compared saw the same rows",
        "folders that hold trials of two samplings",
        repetition.find_unlike_draws,
    ),
    Rule(
        "settings without effect",
        "settings that differ change something",
        f"{PAPER}: equal results with and without decayed rates; dropout under names that are ignored",
        repetition.find_settings_without_effect,
    ),
    Rule(
        "shared rows",
        "no row stands in two sets",
        f"{PAPER}: CoLA's out-of-domain rows are rows of its in-domain ones",
        inputs.report_shared_rows,
    ),
    Rule(
        "other answers",
        "a trial's scores are those of its predictions",
        "tables edited by hand, or filled from another run's files",
        predictions.find_scores_of_other_answers,
    ),
    Rule(
        "unsound predictions",
        "predictions are numbers, one row each",
        "tables written by other programs, or put together twice",
        unsound.find_unsound_predictions,
    ),
    Rule(
        "uncounted looks",
        "a race's looks are told, so that they share the error",
        "races whose looks.json was lost, edited, or left out of a merge",
        race_looks.find_uncounted_looks,
    ),
    Rule(
        "at the majority",
        "scores are above always answering the majority class",
        f"{PAPER}: no CoLA score above it, HANS at chance",
        scores.find_scores_at_majority,
    ),
    Rule(
        "one answer",
        "a trial answers with more than one label",
        "collapsed fine-tuning runs, https://arxiv.org/abs/2006.04884",
        scores.find_one_answer,
    ),
    Rule(
        "idle teacher",
        "a teacher is better than the student it is to teach",
        f"{PAPER}: an untrained teacher that sees no context",
        scores.find_idle_teachers,
    ),
    Rule(
        "threshold",
        "methods that differ by the labels they say differ by how they rank rows too",
        "distillation against pattern out of domain: 7 points apart by accuracy, not by AUROC",
        thresholds.find_threshold_differences,
    ),
    Rule(
        "losses not finite",
        "losses and scores are numbers",
        f"{PAPER}: the distillation loss is NaN",
        fitting.find_losses_not_finite,
    ),
    Rule(
        "groups without effect",
        "every parameter group holds tensors and has a rate",
        f"{PAPER}: rates looked for names that no parameter has",
        fitting.find_groups_without_effect,
    ),
    Rule(
        "decay not applied",
        "layer-wise decayed rates differ between blocks",
        f"{PAPER}: decayed rates that never apply",
        fitting.find_decay_not_applied,
    ),
    Rule(
        "low adapter rate",
        "adapters have a rate that suits them",
        f"{PAPER}: LoRA at the rate of full fine-tuning",
        fitting.find_low_adapter_rates,
    ),
    Rule(
        "unequal tuning",
        "all methods were tuned alike",
        "leaderboards in which the new method alone was tuned",
        fitting.find_unequal_tuning,
    ),
    Rule(
        "defaults of this task",
        "defaults were chosen on other tasks than those that are the evidence",
        "settings that were found on the task they are then praised for",
        defaults.find_defaults_of_this_task,
    ),
    Rule(
        "unequal defaults",
        "as much was tried for one method's defaults as for another's",
        "a new method's settings searched, its rivals' taken from their papers",
        defaults.find_unequal_defaults,
    ),
    Rule(
        "label words",
        "label words can be told apart, and are read as they stand",
        "label words with a stray opening token, with and without their space",
        inputs.find_bad_label_words,
    ),
    Rule(
        "unlabelled rows",
        "methods that are compared learnt from the same rows",
        "distillation on a pool beside methods without one",
        inputs.find_unlabelled_rows,
    ),
    Rule(
        "cut inputs",
        "inputs went in whole",
        "prompts cut at their end, which answer by chance",
        inputs.find_cut_inputs,
    ),
    Rule(
        "unlike machines",
        "costs that are compared were measured alike",
        f"{PAPER}: times of different GPUs",
        measurement.find_unlike_machines,
    ),
    Rule(
        "unlike pace",
        "costs that are averaged were measured at one pace",
        "two rented machines of one name, one nearly twice as fast",
        measurement.find_unlike_paces,
    ),
    Rule(
        "unlike weights",
        "methods that are compared started from the same weights",
        "models fetched without a revision",
        measurement.find_unlike_weights,
    ),
    Rule(
        "single draw",
        "a comparison rests on more than one draw",
        "one seed and no interval, as in most leaderboards",
        repetition.find_single_draws,
    ),
    Rule(
        "single support",
        "draws differ in their labelled rows",
        "all labelled rows used in every draw, and an interval given",
        repetition.find_single_supports,
    ),
    Rule(
        "missing trials",
        "every planned trial was scored",
        "means over the runs that went well",
        repetition.find_missing_trials,
    ),
)


def audit(evidence: Evidence, rules: Iterable[Rule] = RULES) -> list[Finding]:
    """Find everything that the rules object to, the gravest first, each once."""
    return order_findings([finding for rule in rules for finding in rule.find(evidence)])


def order_findings(findings: Sequence[Finding]) -> list[Finding]:
    """The gravest first, in the order of the rules otherwise; equal ones once."""
    return sorted(dict.fromkeys(findings), key=lambda finding: SEVERITIES.index(finding.severity))


def has_errors(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)
