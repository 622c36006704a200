"""Analyses a whole study once, for every report of it.

Owns which parts there are and how a folder becomes them. Knows nothing of how they are shown (`report`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewtune import records as store
from fewtune.analysis.audit.audit import audit
from fewtune.analysis.audit.finding import Evidence, Finding
from fewtune.analysis.curves import Curve, trace_curves
from fewtune.analysis.decision import WITHIN, Contender, Decision
from fewtune.analysis.frontier import COSTS, BreakEven, find_break_evens, find_frontier
from fewtune.analysis.leaderboard import (
    IN_DOMAIN,
    GroupKey,
    LeaderboardGroup,
    LeaderboardRow,
    find_collapsed,
    group_records,
    rank_group,
    rank_variants,
)
from fewtune.analysis.looks import find_levels, keep_looked_at, plan_further_looks
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.reading import read_all
from fewtune.analysis.recommend import DecisionTerms, name_contender, recommend
from fewtune.analysis.stability import Bounds, Stability, bound_in_domain, summarise_variants
from fewtune.analysis.uncounted import Uncounted, find_uncounted, keep_counted
from fewtune.analysis.verdict import GroupLead, GroupVerdict, find_lead, judge_leads
from fewtune.errors import RecordError, shorten
from fewtune.guarantee import Guarantee
from fewtune.inference.better import REGION
from fewtune.metrics.counts import SCORES
from fewtune.records import LookHistory, Record
from fewtune.system.garbage_collection import collecting_later


@dataclass(frozen=True)
class GroupAnalysis:
    """One task, model and number of shots; `members` are its records, those without a model among them."""

    members: tuple[Record, ...]
    board: LeaderboardGroup
    lead: GroupLead
    verdict: GroupVerdict
    stability: dict[str, Stability]
    """Of every scored variant, by name."""
    frontiers: dict[str, tuple[str, ...]]
    """The variants on the frontier of score against each cost, by the cost's name."""
    break_evens: tuple[BreakEven, ...]
    by_pattern: dict[str, dict[str, Bounds]]
    """Scores in domain under each pattern that the study names: by pattern, then by variant."""


@dataclass(frozen=True)
class StudyAnalysis:
    """A study's records, what they say, and what is wrong with them."""

    name: str
    records: tuple[Record, ...]
    groups: tuple[GroupAnalysis, ...]
    decisions: tuple[Decision, ...]
    """One a task and number of shots, without a budget, in the order of the groups."""
    curves: tuple[Curve, ...]
    findings: tuple[Finding, ...]
    waiting: tuple[store.Cell, ...]
    """The cells of planned trials without a record: the study is unfinished where there are any."""
    reader: AnswerReader
    region: float
    """The largest difference that does not matter."""
    terms: DecisionTerms
    """The terms of the decisions."""
    planned_looks: tuple[int, ...]
    """The draws of each look, those that were taken among them; none where looks are not counted."""

    def decision(self, board: LeaderboardGroup) -> Decision:
        """The decision for a group's task and number of shots."""
        places = ((each.question.task, each.question.shots) for each in self.decisions)
        return dict(zip(places, self.decisions, strict=True))[board.task, board.shots]

    def contender(self, board: LeaderboardGroup, row: LeaderboardRow) -> Contender | None:
        """A row of a leaderboard as it was decided on; None where it was not."""
        names = (row.variant, name_contender(row.variant, board.model if row.uses_model else None, True))
        found = {each.name: each for each in self.decision(board).contenders}
        return next((found[name] for name in names if name in found), None)

    def bounds(self, decision: Decision) -> dict[str, Bounds]:
        """The interval of each contender's mean score in domain, on the draws decided on, by the contender's name."""
        places = (decision.question.task, decision.question.shots)
        groups = [group for group in self.groups if (group.board.task, group.board.shots) == places]
        members = {record.trial_id: record for group in groups for record in group.members}
        looked_at = set(members)
        if decision.question.guarantee == "bound":
            kept = keep_looked_at(list(members.values()), self.terms.looks, self.terms.seeds)
            looked_at = {record.trial_id for record in kept}
            groups = [group for group in groups if any(record.trial_id in looked_at for record in group.members)]
        found = {}
        for group in groups:
            board, stability = self._look_at(group, looked_at)
            for row in board.rows:
                if row.variant in stability:
                    model = board.model if row.uses_model else None
                    found[name_contender(row.variant, model, len(groups) > 1)] = stability[row.variant].bounds[
                        IN_DOMAIN
                    ]
        return found

    def _look_at(
        self, group: GroupAnalysis, looked_at: Collection[str]
    ) -> tuple[LeaderboardGroup, dict[str, Stability]]:
        """A group's leaderboard and stability on these trials."""
        trials = [record for record in group.members if record.trial_id in looked_at]
        if len(trials) == len(group.members):
            return group.board, group.stability
        [board] = rank_variants(trials, self.reader)
        return board, summarise_variants(trials, board.rows, self.reader)

    @property
    def models(self) -> dict[str, str]:
        """What is known of each model beyond its name, by name, where its records say."""
        told = [(record.trial.model, record.environment.get("model")) for record in self.records]
        return {name: said for name, said in told if name is not None and isinstance(said, str)}

    @property
    def unlabelled(self) -> frozenset[str]:
        """The variants that learnt from rows without labels too."""
        return frozenset(row.variant for group in self.groups for row in group.board.rows if row.unlabelled)

    @property
    def missing(self) -> dict[str, int]:
        """How many trials wait, by variant."""
        return count_by_variant(self.waiting)


@dataclass(frozen=True)
class FolderContents:
    """What a folder holds of a study, predictions apart."""

    name: str
    records: tuple[Record, ...]
    waiting: tuple[store.Cell, ...]
    region: float
    within: float
    guarantee: Guarantee
    looks: LookHistory | None
    """Those that bounds rest on; None where looks are not counted."""
    uncounted: Uncounted
    """Where looks were taken that are not told."""
    seeds: tuple[int, ...]
    """The study's data seeds in order; none where its file does not say."""
    races: bool
    """Whether its file says that it races, as it may in a folder that began with fixed draws."""

    @property
    def planned_looks(self) -> tuple[int, ...]:
        """The draws of each look, of a race's where the study is one by now; none where looks are not counted."""
        if self.looks is None:
            return ()
        by_bound = self.races and self.seeds and self.guarantee == "bound"
        return plan_further_looks(self.looks, len(self.seeds)) if by_bound else self.looks.plan

    @property
    def terms(self) -> DecisionTerms:
        """The terms of its decisions, without a budget."""
        return DecisionTerms(within=self.within, looks=self.looks, seeds=self.seeds, guarantee=self.guarantee)


@collecting_later()
def analyse_folder(out_dir: Path) -> StudyAnalysis:
    """Analyse what `fewtune run` wrote; raises RecordError where it cannot be read."""
    return analyse_contents(out_dir, read_folder(out_dir))


@collecting_later()
def analyse_contents(out_dir: Path, contents: FolderContents) -> StudyAnalysis:
    """Analyse a folder whose records are read already; raises RecordError where its predictions cannot be."""
    records, reader = contents.records, AnswerReader(store.StudyPredictions(out_dir))
    # Read in the order of records, group by group: rows are numbered as they come up.
    read_all(reader, (record for record in records if record.status == "done"))
    contents = replace(contents, records=reader.set_aside(records))
    records = contents.records
    collapsed = find_collapsed(records, reader)
    seen = {record.trial_id for record in keep_looked_at(records, contents.looks, contents.seeds)}
    groups = [analyse_group(key, members, collapsed, seen, reader) for key, members in group_records(records).items()]
    decisions = recommend([group.board for group in groups], records, reader, contents.terms)
    return assemble(contents, groups, decisions, reader)


def read_folder(out_dir: Path, load: Callable[[Path], Record] = store.load_record) -> FolderContents:
    """Read a folder's records by `load`, and what its study says of them; raises RecordError where that fails."""
    records = _choose_metric(store.load_records(out_dir, load), store.load_study_entry(out_dir, "metrics") or ())
    planned = store.load_planned(out_dir) or {}
    recorded = {record.trial_id for record in records}
    seeds = tuple(store.load_study_entry(out_dir, "data_seeds") or ())
    races = store.load_study_entry(out_dir, "until") is not None
    looks = store.load_looks(out_dir)
    uncounted = find_uncounted(records, looks, races)
    draws = max(len(seeds), len({record.trial.data_seed for record in records}))
    return FolderContents(
        name=store.load_study_entry(out_dir, "name") or out_dir.resolve().name,
        records=tuple(records),
        waiting=tuple(cell for trial_id, cell in planned.items() if trial_id not in recorded),
        region=_read_share(out_dir, "equivalence", REGION, "0.01: one point"),
        within=_read_share(out_dir, "within", WITHIN, "0.03: three points"),
        guarantee=store.load_study_entry(out_dir, "guarantee") or "expected_loss",
        looks=keep_counted(looks, uncounted, draws),
        uncounted=uncounted,
        seeds=seeds,
        races=races,
    )


def analyse_group(
    key: GroupKey,
    members: Sequence[Record],
    collapsed: Mapping[str, bool],
    looked_at: Collection[str],
    reader: AnswerReader,
) -> GroupAnalysis:
    """All that reports show of one group, judged by itself on the trials that were `looked_at`, by their ids."""
    board = rank_group(key, members, collapsed)
    lead = find_lead(key, [record for record in members if record.trial_id in looked_at], reader)
    by_pattern = {}
    for pattern in sorted({record.trial.pattern for record in members if record.trial.pattern is not None}):
        under = [record for record in members if record.trial.pattern == pattern]
        by_pattern[pattern] = bound_in_domain(under, rank_group(key, under, collapsed).rows, reader)
    return GroupAnalysis(
        members=tuple(members),
        board=board,
        lead=lead,
        verdict=judge_leads([lead], {})[0],
        stability=summarise_variants(members, board.rows, reader),
        frontiers={cost: find_frontier(board, price) for cost, price in COSTS.items()},
        break_evens=tuple(find_break_evens(board)),
        by_pattern=by_pattern,
    )


def assemble(
    contents: FolderContents, groups: Sequence[GroupAnalysis], decisions: Sequence[Decision], reader: AnswerReader
) -> StudyAnalysis:
    """A study from its groups: verdicts, learning curves and the audit, which look at all of them."""
    levels = find_levels(contents.looks, contents.records, contents.seeds)
    verdicts = judge_leads([group.lead for group in groups], levels, contents.region)
    groups = [replace(group, verdict=verdict) for group, verdict in zip(groups, verdicts, strict=True)]
    return StudyAnalysis(
        name=contents.name,
        records=contents.records,
        groups=tuple(groups),
        decisions=tuple(decisions),
        curves=tuple(trace_curves((group.board, group.stability) for group in groups)),
        findings=tuple(
            audit(Evidence(contents.records, reader, count_by_variant(contents.waiting), contents.uncounted))
        ),
        waiting=contents.waiting,
        reader=reader,
        region=contents.region,
        terms=contents.terms,
        planned_looks=contents.planned_looks,
    )


def _read_share(out_dir: Path, key: str, otherwise: float, example: str) -> float:
    """A difference of scores that the study sets, or what holds where it sets none."""
    given = store.load_study_entry(out_dir, key)
    if given is None:
        return otherwise
    try:
        share = math.nan if isinstance(given, bool) else float(given)
    except (ValueError, OverflowError):
        share = math.nan
    if not 0 <= share < 1:
        raise RecordError(
            f"{out_dir / 'study.yaml'}: `{key}` is {shorten(repr(given))}; give a number from 0 to below 1 ({example})."
        )
    return share


def count_by_variant(cells: Sequence[store.Cell]) -> dict[str, int]:
    return dict(Counter(cell.variant for cell in cells))


def _choose_metric(records: list[Record], asked: Sequence[str]) -> list[Record]:
    """Records with the metric a study asks to be judged by, where all have it; else each task's own stands."""
    done = [record for record in records if record.status == "done"]
    wanted = [
        name for name in asked if name in SCORES and all(name in scores for r in done for scores in r.metrics.values())
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
