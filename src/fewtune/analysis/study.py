"""A whole study, analysed once: everything that any report of it shows.

Owns which parts there are and how a folder becomes them. Knows nothing of how they are shown (`report`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fewtune import records as store
from fewtune.analysis import comparison, statistics
from fewtune.analysis.audit.audit import audit
from fewtune.analysis.audit.finding import Evidence, Finding
from fewtune.analysis.curves import Curve, trace_curves
from fewtune.analysis.frontier import COSTS, BreakEven, find_break_evens, find_frontier
from fewtune.analysis.leaderboard import LeaderboardGroup, group_records, rank_variants
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.stability import Stability, summarise_variants
from fewtune.analysis.verdict import GroupVerdict, judge_study
from fewtune.errors import RecordError, shorten
from fewtune.records import Record

ANALYSIS_SEED = 20240501
"""Seed of every bootstrap of a report, so that one folder always gives one report."""


@dataclass(frozen=True)
class GroupAnalysis:
    """One task, model and number of shots; `members` are its records, those without a model among them."""

    members: tuple[Record, ...]
    board: LeaderboardGroup
    verdict: GroupVerdict
    stability: dict[str, Stability]
    """Of every scored variant, by name."""
    frontiers: dict[str, tuple[str, ...]]
    """The variants on the frontier of score against each cost, by the cost's name."""
    break_evens: tuple[BreakEven, ...]


@dataclass(frozen=True)
class StudyAnalysis:
    """A study's records, what they say, and what is wrong with them."""

    name: str
    records: tuple[Record, ...]
    groups: tuple[GroupAnalysis, ...]
    curves: tuple[Curve, ...]
    findings: tuple[Finding, ...]
    waiting: tuple[store.Cell, ...]
    """The cells of planned trials without a record: the study is unfinished where there are any."""
    reader: AnswerReader
    region: float
    """The largest difference that does not matter."""

    @property
    def missing(self) -> dict[str, int]:
        """How many trials wait, by variant."""
        return count_by_variant(self.waiting)


def analyse_folder(out_dir: Path) -> StudyAnalysis:
    """Analyse what `fewtune run` wrote; raises RecordError where it cannot be read."""
    records = _choose_metric(store.load_records(out_dir), store.load_study_entry(out_dir, "metrics") or ())
    reader = AnswerReader(partial(store.load_predictions, out_dir))
    planned = store.load_planned(out_dir) or {}
    recorded = {record.trial_id for record in records}
    waiting = [cell for trial_id, cell in planned.items() if trial_id not in recorded]
    name = store.load_study_entry(out_dir, "name") or out_dir.resolve().name
    return analyse_study(name, records, reader, waiting, _read_region(out_dir))


def analyse_study(
    name: str,
    records: Sequence[Record],
    reader: AnswerReader,
    waiting: Sequence[store.Cell] = (),
    region: float = comparison.REGION,
) -> StudyAnalysis:
    """Analyse records with their predictions; differences within the region do not matter."""
    boards = rank_variants(records, reader)
    verdicts = judge_study(records, reader, np.random.default_rng(ANALYSIS_SEED), region=region)
    members = group_records(records).values()
    return StudyAnalysis(
        name=name,
        records=tuple(records),
        groups=tuple(
            GroupAnalysis(
                members=tuple(trials),
                board=board,
                verdict=verdict,
                stability=summarise_variants(trials, board.rows),
                frontiers={cost: find_frontier(board, price) for cost, price in COSTS.items()},
                break_evens=tuple(find_break_evens(board)),
            )
            for trials, board, verdict in zip(members, boards, verdicts, strict=True)
        ),
        curves=tuple(trace_curves(boards)),
        findings=tuple(audit(Evidence(tuple(records), reader, count_by_variant(waiting)))),
        waiting=tuple(waiting),
        reader=reader,
        region=region,
    )


def _read_region(out_dir: Path) -> float:
    """The study's `equivalence`, the default where it has none."""
    given = store.load_study_entry(out_dir, "equivalence")
    if given is None:
        return comparison.REGION
    try:
        region = math.nan if isinstance(given, bool) else float(given)
    except (ValueError, OverflowError):
        region = math.nan
    if not 0 <= region < 1:
        raise RecordError(
            f"{out_dir / 'study.yaml'}: `equivalence` is {shorten(repr(given))}; give a number from 0 to below 1 "
            "(0.01: one point)."
        )
    return region


def count_by_variant(cells: Sequence[store.Cell]) -> dict[str, int]:
    return dict(Counter(cell.variant for cell in cells))


def _choose_metric(records: list[Record], asked: Sequence[str]) -> list[Record]:
    """Records with the metric a study asks to be judged by, where all have it; else each task's own stands."""
    done = [record for record in records if record.status == "done"]
    wanted = [
        name
        for name in asked
        if name in statistics.SCORES and all(name in scores for r in done for scores in r.metrics.values())
    ]
    if wanted:
        return [record.model_copy(update={"primary_metric": wanted[0]}) for record in records]
    first: dict[str, Record] = {}
    for record in done:
        other = first.setdefault(record.trial.task, record)
        if record.primary_metric != other.primary_metric:
            paths = [store.record_path(Path(), each.trial_id) for each in (record, other)]
            raise RecordError(
                f"{paths[0]}: judged by {record.primary_metric}, and {paths[1]} of the same task by "
                f"{other.primary_metric}: no mean can be taken of both. Delete the one that was changed and run "
                "the study again."
            )
    return records
