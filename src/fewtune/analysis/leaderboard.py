"""The leaderboard: a row for each (task, model, shots, variant), with every draw's value and what it cost.

Owns grouping, means over draws, the majority and chance in a metric's own terms, and the share of collapsed
trials. Does not know about intervals (`inference`), who wins (`verdict`), or how a table looks (`report`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fewtune.analysis.predictions import AnswerReader
from fewtune.inference.answers import DrawKey
from fewtune.plurals import pluralise
from fewtune.records import IN_DOMAIN as IN_DOMAIN
from fewtune.records import Record

GroupKey = tuple[str, str | None, int]
"""What is compared: a task, a model (None: no trial of the group uses one) and a number of shots."""

COLLAPSE_DEPTH = 0.1
"""How far below its others the trials of a variant are that collapsed, or fell: less may be noise."""


@dataclass(frozen=True)
class DrawValue:
    """One draw's score, averaged over its fit seeds."""

    data_seed: int
    value: float
    fit_seeds: int


@dataclass(frozen=True)
class TestSetScore:
    """A variant's primary metric on one test set; `mean` is over draws, None where no trial was scored."""

    __test__ = False  # not a test class, whatever pytest makes of its name
    test_set: str
    mean: float | None
    draws: tuple[DrawValue, ...]


@dataclass(frozen=True)
class LeaderboardRow:
    """One variant in one group; whatever was not measured is None."""

    variant: str
    method: str
    uses_model: bool
    scores: Mapping[str, TestSetScore]
    done: int
    failed: int
    skipped: int
    stopped: int
    collapsed_share: float | None
    """Share of done trials at or below the majority in domain, by the primary metric, or that gave one answer only."""
    fit_seconds: float | None
    shared_seconds: float | None
    """Of fitting and predicting, for what an earlier trial of the process had computed; None where nothing was."""
    predict_seconds_per_row: float | None
    peak_memory_bytes: int | None
    """Allocated at once by the hungriest trial."""
    resident_memory_bytes: int | None
    """Held at once by the process of the trial that held most; None where no record tells, as those of old."""
    trainable_parameters: int | None
    total_parameters: int | None
    trial_seconds: float | None
    """Mean wall seconds of a done trial, all its phases."""
    collapses: bool
    """Some done trials collapsed, or fell, and others did not, COLLAPSE_DEPTH above them."""
    refitted: int
    """Fits that had collapsed and were made again, over its done trials."""
    unlabelled: bool
    """It learnt from rows without labels besides."""
    above_majority: float | None
    """Its mean in domain less the majority's on the same draws; None where either is not known."""

    @property
    def in_domain(self) -> float | None:
        """Mean primary metric in domain."""
        return self.scores[IN_DOMAIN].mean if IN_DOMAIN in self.scores else None

    @property
    def memory_bytes(self) -> int | None:
        """What a machine must have: what was held where that is known, else what was allocated, which is less."""
        known = [size for size in (self.resident_memory_bytes, self.peak_memory_bytes) if size is not None]
        return max(known, default=None)

    @property
    def draws(self) -> int:
        """Number of draws with an in-domain score."""
        return len(self.scores[IN_DOMAIN].draws) if IN_DOMAIN in self.scores else 0


@dataclass(frozen=True)
class LeaderboardGroup:
    """The variants that can be compared: one task, one model, one number of shots; best in domain first.

    `majority` and `chance` are in the primary metric, by test set, None where that is not known.
    """

    task: str
    model: str | None
    shots: int
    metric: str
    test_sets: tuple[str, ...]
    majority: Mapping[str, float | None]
    chance: Mapping[str, float | None]
    rows: tuple[LeaderboardRow, ...]

    @property
    def title(self) -> str:
        """Task, model and shots in words."""
        return " · ".join([self.task, self.model or "no language model", pluralise(self.shots, "shot")])


def group_records(records: Iterable[Record]) -> dict[GroupKey, list[Record]]:
    """Sort records into (task, model, shots); those that use no model join every model's group."""
    found: dict[tuple[str, int], dict[str | None, list[tuple[int, Record]]]] = {}
    for place, record in enumerate(records):
        axes = record.trial
        models = found.setdefault((axes.task, axes.shots), {})
        models.setdefault(axes.model, []).append((place, record))
    groups: dict[GroupKey, list[Record]] = {}
    for (task, shots), models in sorted(found.items(), key=lambda item: item[0]):
        without = models.pop(None, [])
        named: list[str | None] = [*sorted(name for name in models if name is not None)]
        for model in named or [None]:
            members = sorted([*models.get(model, []), *without], key=lambda item: item[0])
            groups[task, model, shots] = [record for _, record in members]
    return groups


def group_by_variant(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Sort records by their variant, in the order in which variants first occur."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.trial.variant, []).append(record)
    return found


def name_test_set(name: str) -> str:
    """Format a test set's name."""
    return "in domain" if name == IN_DOMAIN else name


def draw_of(record: Record) -> DrawKey:
    """Identify the draw that a record was scored on."""
    return record.trial.data_seed, record.fingerprints.get("draw", "")


def rank_variants(records: Iterable[Record], reader: AnswerReader) -> list[LeaderboardGroup]:
    """Make every group's leaderboard, best mean in domain first, unscored variants last."""
    records = list(records)
    collapsed = find_collapsed(records, reader)
    return [rank_group(key, members, collapsed) for key, members in group_records(records).items()]


def find_collapsed(records: Iterable[Record], reader: AnswerReader) -> dict[str, bool]:
    """Whether each done trial has collapsed, by trial id."""
    return {r.trial_id: is_collapsed(r, reader) for r in records if r.status == "done"}


def rank_group(key: GroupKey, members: Sequence[Record], collapsed: Mapping[str, bool]) -> LeaderboardGroup:
    """Make one group's leaderboard."""
    task, model, shots = key
    test_sets = _order_test_sets(members)
    rows = [_make_row(trials, test_sets, collapsed) for trials in group_by_variant(members).values()]
    return LeaderboardGroup(
        task=task,
        model=model,
        shots=shots,
        metric=name_metric(members),
        test_sets=test_sets,
        majority={name: _average_baseline(members, name, score_majority) for name in test_sets},
        chance={name: _average_baseline(members, name, score_chance) for name in test_sets},
        rows=tuple(sorted(rows, key=_rank)),
    )


def average_metrics(records: Iterable[Record], test_set: str) -> dict[str, dict[str, float]]:
    """Average every metric over a variant's done trials: variant -> metric -> mean, best primary metric first."""
    found = group_by_variant(r for r in records if r.status == "done" and test_set in r.metrics)
    means = {
        variant: {
            name: fmean(r.metrics[test_set][name] for r in trials if name in r.metrics[test_set])
            for name in trials[0].metrics[test_set]
        }
        for variant, trials in found.items()
    }
    primary = {variant: trials[0].primary_metric for variant, trials in found.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1][primary[item[0]]]))


def name_metric(records: Sequence[Record]) -> str:
    """Name the primary metric of a group: that of its scored trials (a failed trial may not know it)."""
    return next((r.primary_metric for r in records if r.status == "done"), records[0].primary_metric)


def score_majority(record: Record, test_set: str) -> float | None:
    """Score always answering the commonest gold label, in the record's primary metric."""
    share = record.baselines.get(test_set, {}).get("majority")
    chance = record.baselines.get(test_set, {}).get("chance")
    if share is None or chance is None:
        return None
    if record.primary_metric == "accuracy":
        return share
    if record.primary_metric == "mcc":
        return 0.0
    if record.primary_metric == "macro_f1":
        # One label has precision `share` and recall 1, every other that occurs an F1 of 0.
        labels = record.baselines[test_set].get("labels", round(1 / chance))
        return 2 * share / (1 + share) / labels
    return None


def score_chance(record: Record, test_set: str) -> float | None:
    """Score uniform guessing, in the record's primary metric; None where it has no plain answer."""
    chance = record.baselines.get(test_set, {}).get("chance")
    if chance is None:
        return None
    return {"accuracy": chance, "mcc": 0.0}.get(record.primary_metric)


def is_collapsed(record: Record, reader: AnswerReader) -> bool:
    """Tell whether a done trial is at or below the majority in domain, or answered with one label only."""
    score = record.metrics.get(IN_DOMAIN, {}).get(record.primary_metric)
    majority = score_majority(record, IN_DOMAIN)
    if score is not None and majority is not None and score <= majority:
        return True
    return gives_one_answer(record, reader)


def gives_one_answer(record: Record, reader: AnswerReader) -> bool:
    """Tell whether a done trial gave every row in domain the same label."""
    answers = reader.answers(record).get(IN_DOMAIN)
    return answers is not None and bool((answers.predicted == answers.predicted[0]).all())


def keep_whole_draws(trials: Sequence[Record]) -> list[Record]:
    """Keep one variant's trials on the draws on which it has as many, over fit seeds and patterns, as on any.

    The others are half run, and what ran of them may be the easy half.
    """
    draws = [draw_of(record) for record in trials]
    counts = Counter(draws)
    most = max(counts.values(), default=0)
    return [record for record, draw in zip(trials, draws, strict=True) if counts[draw] == most]


def _keep_scored(records: Iterable[Record], test_set: str) -> list[Record]:
    """Keep one variant's done trials that are scored on a test set, on whole draws."""
    return keep_whole_draws(
        [r for r in records if r.status == "done" and r.primary_metric in r.metrics.get(test_set, {})]
    )


def average_draws(records: Iterable[Record], test_set: str) -> tuple[DrawValue, ...]:
    """Average one variant's done trials, fit seeds and patterns, on each whole draw, in the order of data seeds."""
    by_draw: dict[DrawKey, list[float]] = {}
    for record in _keep_scored(records, test_set):
        by_draw.setdefault(draw_of(record), []).append(record.metrics[test_set][record.primary_metric])
    return tuple(DrawValue(key[0], fmean(values), len(values)) for key, values in sorted(by_draw.items()))


def _make_row(trials: Sequence[Record], test_sets: Sequence[str], collapsed: Mapping[str, bool]) -> LeaderboardRow:
    done = [record for record in trials if record.status == "done"]
    costs = [record.cost for record in done if record.cost is not None]
    scores = {}
    for name in test_sets:
        draws = average_draws(done, name)
        scores[name] = TestSetScore(name, _mean([draw.value for draw in draws]), draws)
    return LeaderboardRow(
        variant=trials[0].trial.variant,
        method=trials[0].trial.method,
        uses_model=trials[0].trial.model is not None,
        scores=scores,
        done=len(done),
        failed=sum(record.status == "failed" for record in trials),
        skipped=sum(record.status == "skipped" for record in trials),
        stopped=sum(record.status == "stopped" for record in trials),
        collapsed_share=_mean([float(collapsed[record.trial_id]) for record in done]),
        fit_seconds=_mean([cost.fit_seconds for cost in costs]),
        shared_seconds=sum(cost.shared_seconds or 0.0 for cost in costs) / max(1, len(costs)) or None,
        predict_seconds_per_row=_mean(
            [
                cost.predict_seconds / cost.predict_rows
                for cost in costs
                if cost.predict_seconds is not None and cost.predict_rows
            ]
        ),
        peak_memory_bytes=_largest(cost.peak_memory_bytes for cost in costs),
        resident_memory_bytes=_largest(cost.resident_memory_bytes for cost in costs),
        trainable_parameters=_largest(cost.trainable_parameters for cost in costs),
        total_parameters=_largest(cost.total_parameters for cost in costs),
        trial_seconds=_mean([count_seconds(record) for record in done]),
        collapses=_collapses_at_times(done, collapsed),
        refitted=sum(record.notes.fit.collapsed for record in done),
        unlabelled=any(map(saw_unlabelled, done)),
        above_majority=_mean([_mean(leads) for leads in _list_leads(done).values()]),
    )


def _list_leads(done: Sequence[Record]) -> dict[DrawKey, list[float | None]]:
    """One variant's scores in domain less the majority's, on each whole draw."""
    leads: dict[DrawKey, list[float | None]] = {}
    for record in _keep_scored(done, IN_DOMAIN):
        score, majority = record.metrics[IN_DOMAIN][record.primary_metric], score_majority(record, IN_DOMAIN)
        leads.setdefault(draw_of(record), []).append(None if majority is None else score - majority)
    return leads


def saw_unlabelled(record: Record) -> bool:
    """Whether a trial learnt from rows without labels; of old records, whether more rows were taught than have one."""
    notes = record.notes
    return notes.unlabelled is not None or (
        notes.teacher is not None and notes.teacher.rows_taught > record.trial.shots
    )


def count_seconds(record: Record) -> float | None:
    """Wall seconds of a done trial: of its phases, of what was timed otherwise where they were not measured."""
    if record.phase_seconds:
        return sum(record.phase_seconds.values())
    known = (record.cost.load_seconds, record.cost.fit_seconds, record.cost.predict_seconds) if record.cost else ()
    timed = [seconds for seconds in known if seconds is not None]
    return sum(timed) if timed else None


def _collapses_at_times(done: Sequence[Record], collapsed: Mapping[str, bool]) -> bool:
    scores: dict[bool, list[float]] = {True: [], False: []}
    for record in done:
        if record.primary_metric in record.metrics.get(IN_DOMAIN, {}):
            scores[collapsed[record.trial_id]].append(record.metrics[IN_DOMAIN][record.primary_metric])
    if scores[True] and scores[False] and fmean(scores[False]) - fmean(scores[True]) >= COLLAPSE_DEPTH:
        return True
    return _fall_apart([draw.value for draw in average_draws(done, IN_DOMAIN)])


def _fall_apart(scores: Sequence[float]) -> bool:
    """Whether fewer than half of the scores lie below the others with COLLAPSE_DEPTH between them."""
    ordered = sorted(scores)
    lower = range(1, (len(ordered) + 1) // 2)
    return any(ordered[place] - ordered[place - 1] >= COLLAPSE_DEPTH for place in lower)


def _order_test_sets(records: Iterable[Record]) -> tuple[str, ...]:
    found = {name for record in records for name in record.metrics}
    return tuple(sorted(found, key=lambda name: (name != IN_DOMAIN, name)))


def _average_baseline(
    records: Iterable[Record], test_set: str, score: Callable[[Record, str], float | None]
) -> float | None:
    scored = [r for r in records if r.status == "done" and test_set in r.baselines]
    by_draw = {draw_of(r): score(r, test_set) for r in scored}
    return _mean(list(by_draw.values()))


def _rank(row: LeaderboardRow) -> tuple[bool, float, str]:
    return row.in_domain is None, -(row.in_domain or 0.0), row.variant


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
