"""Figures that documents state of committed studies, derived from their records.

    python -m benchmarks.stated           fails where a stated figure is not what the records give
    python -m benchmarks.stated --write   writes every figure anew

A table stands in a document between `<!-- table: NAME -->` and `<!-- /table -->`; `results/tables.yaml` says what it
shows. A figure of its own stands as `<!--fig FOLDER | TASK MODEL SHOTS | WHAT-->…<!--/fig-->`: FOLDER is below
`results/`, WHAT is one of FIGURES with its arguments, such as `mean pattern in_domain` or `difference pattern lora
outside`, where `outside` is every test set out of domain, weighed alike, and the second of two may be `commonest`, the
majority class of the test rows; or it is one of FIGURES_BESIDE, such as `above_reference lora OTHER_FOLDER pattern
teacher`. With `all` for TASK MODEL SHOTS it is one of STUDY_FIGURES, of the whole study.
Between `<!-- stated -->` and `<!-- /stated -->` no decimal may stand outside of either. Owns the notation; the numbers
are the analysis's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import StatisticsError, fmean

import yaml
from pydantic import BaseModel, ConfigDict

from benchmarks.apart import ROOT
from benchmarks.cells import format_gain
from fewtune.analysis.answers import answer_commonest, read_answers
from fewtune.analysis.decision import Decision
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.analysis.recommend import recommend, weigh_test_sets
from fewtune.analysis.study import GroupAnalysis, StudyAnalysis, analyse_folder
from fewtune.inference.better import LEVEL, NOT_COMPARED, Comparison, correct_steps, judge
from fewtune.inference.differences import subtract
from fewtune.inference.scores import score_methods
from fewtune.metrics.counts import find_span
from fewtune.records import Record, load_events, load_records
from fewtune.report.profile import sum_phases
from fewtune.report.wording import (
    UNKNOWN,
    UNLABELLED_MARK,
    UNLABELLED_NOTE,
    format_bound,
    format_decision,
    format_expected,
    format_lost,
    format_memory,
    format_milliseconds,
    format_score,
    format_seconds,
    format_share,
    list_verdict,
)

RESULTS = ROOT / "results"
DOCUMENTS = (ROOT / "docs" / "demo.md", RESULTS / "README.md")

FIGURE = re.compile(
    r"<!--fig (?P<folder>[^|]+)\|(?P<group>[^|]+)\|(?P<what>[^>]+?)-->(?P<stated>.*?)<!--/fig-->", re.DOTALL
)
TABLE = re.compile(r"(?P<opening><!-- table: (?P<name>[\w-]+) -->\n)(?P<stated>.*?)<!-- /table -->", re.DOTALL)
STATED = re.compile(r"<!-- stated -->(.*?)<!-- /stated -->", re.DOTALL)
DECIMAL = re.compile(r"\d\.\d")
OUTSIDE = "outside"
MAJORITY = "commonest"
DECISIONS = "decisions"
"""The table of all committed decisions, which tables.yaml does not list."""


def compare_on(
    study: StudyAnalysis, group: GroupAnalysis, first: str, second: str, test_set: str = IN_DOMAIN
) -> Comparison:
    """Two named variants on a test set or OUTSIDE, planned before the results were seen: no correction for many.

    The second may be MAJORITY: the majority class of the test rows, answered always.
    """
    weights = weigh_test_sets(group.board.test_sets, 1.0) if test_set == OUTSIDE else {test_set: 1.0}
    answers = read_answers(group.members, study.reader, list(weights))
    answers[MAJORITY] = answer_commonest(answers[first])
    scored = score_methods({name: answers[name] for name in (first, second)}, group.board.metric, weights)
    if not scored[first].keys() & scored[second].keys():
        return NOT_COMPARED
    return judge(subtract(scored[first], scored[second]), find_span(group.board.metric))


def format_difference(
    study: StudyAnalysis, group: GroupAnalysis, first: str, second: str, test_set: str = IN_DOMAIN
) -> str:
    """Word the points between two variants: '+2.0 [-5.2, 9.2]'."""
    return format_points(compare_on(study, group, first, second, test_set))


def format_points(found: Comparison) -> str:
    if found.point is None or found.low is None or found.high is None:
        raise ValueError("two methods that are compared share no draw")
    return f"{100 * found.point:+z.1f} [{100 * found.low:z.1f}, {100 * found.high:z.1f}]"


def format_claim(found: Comparison) -> str:
    return f"{format_points(found)} {found.answer}"


def format_answer(
    study: StudyAnalysis, group: GroupAnalysis, first: str, second: str, test_set: str = IN_DOMAIN
) -> str:
    return compare_on(study, group, first, second, test_set).answer


def format_answered(
    study: StudyAnalysis, group: GroupAnalysis, first: str, second: str, test_set: str = IN_DOMAIN
) -> str:
    """Word the points between two variants and what they say: '+2.0 [-5.2, 9.2] cannot tell'."""
    return format_claim(compare_on(study, group, first, second, test_set))


def format_mean(study: StudyAnalysis, group: GroupAnalysis, variant: str, test_set: str = IN_DOMAIN) -> str:
    return format_score(group.stability[variant].bounds[test_set].mean)


def format_interval(study: StudyAnalysis, group: GroupAnalysis, variant: str, test_set: str = IN_DOMAIN) -> str:
    bounds = group.stability[variant].bounds[test_set]
    return f"{format_score(bounds.mean)} [{format_score(bounds.low)}, {format_score(bounds.high)}]"


def format_reference(study: StudyAnalysis, group: GroupAnalysis, variant: str, name: str) -> str:
    """Word the mean score in domain of a model that a variant learns from, such as its `teacher`."""
    members = _find_done(group, variant).values()
    return format_score(
        fmean(record.notes.references[name].metrics[IN_DOMAIN][group.board.metric] for record in members)
    )


def format_above_reference(first: Group, second: Group, own: str, variant: str, name: str) -> str:
    """Word what a variant scores in domain above a model that a variant of another study learns from (`format_gain`).

    Paired by draw. Raises ValueError where the two were not asked of the same rows.
    """
    metric, gains = first[1].board.metric, []
    trials, others = _find_done(first[1], own), _find_done(second[1], variant)
    for seed in sorted(trials.keys() & others.keys()):
        reference = others[seed].notes.references[name]
        rows, its = _list_rows(first[0], trials[seed]), _list_rows(second[0], others[seed])
        if rows != its or reference.rows.get(IN_DOMAIN, len(rows)) != len(rows):
            raise ValueError(f"{own} and the {name} of {variant} were asked of other rows")
        gains.append(trials[seed].metrics[IN_DOMAIN][metric] - reference.metrics[IN_DOMAIN][metric])
    return format_gain({first[1].board.task: gains})


def _find_done(group: GroupAnalysis, variant: str) -> dict[int, Record]:
    """A variant's done trials by data seed, the last fit seed's where there are several."""
    done = [record for record in group.members if record.trial.variant == variant and record.status == "done"]
    return {record.trial.data_seed: record for record in done}


def _list_rows(study: StudyAnalysis, record: Record) -> list[str]:
    """The ids of the rows in domain that a trial was tested on."""
    table = study.reader.load(record.trial_id)
    return table.filter(table["test_set"] == IN_DOMAIN)["row_id"].to_list()


def format_majority(study: StudyAnalysis, group: GroupAnalysis, test_set: str = IN_DOMAIN) -> str:
    return format_score(group.board.majority[test_set])


def format_fit(study: StudyAnalysis, group: GroupAnalysis, variant: str) -> str:
    return format_seconds(next(row.fit_seconds for row in group.board.rows if row.variant == variant))


def format_latency(study: StudyAnalysis, group: GroupAnalysis, variant: str) -> str:
    """Word how long a variant takes to answer one row of many."""
    seconds = next(row.predict_seconds_per_row for row in group.board.rows if row.variant == variant)
    return f"{format_milliseconds(seconds)} ms"


def format_parameters(study: StudyAnalysis, group: GroupAnalysis, variant: str) -> str:
    """Word how many millions of parameters answer."""
    count = next(row.total_parameters for row in group.board.rows if row.variant == variant)
    return UNKNOWN if count is None else f"{count / 1e6:.0f} million"


def format_peak_memory(study: StudyAnalysis, group: GroupAnalysis, variant: str) -> str:
    return format_memory(next(row.peak_memory_bytes for row in group.board.rows if row.variant == variant))


def format_verdict(study: StudyAnalysis, group: GroupAnalysis) -> str:
    """The verdict, a line a comparison."""
    decision = study.decision(group.board)
    lines = [format_decision(decision), *(f"- {line}" for line in list_verdict(decision, group.verdict))]
    return "\n".join(["", "```", *lines, "```", ""])


def format_regret(study: StudyAnalysis, group: GroupAnalysis, variant: str) -> str:
    """Word how many points a variant may be below the best, by the decision on its group."""
    contenders = {each.name: each for each in study.decision(group.board).contenders}
    names = (variant, f"{variant} ({group.board.model})")  # the second where models are compared too
    return format_bound(next(contenders[name] for name in names if name in contenders))


def format_loss(study: StudyAnalysis, group: GroupAnalysis, variant: str) -> str:
    """Word how many points a variant is expected to lose to the best, by the decision on its group."""
    contenders = {each.name: each for each in study.decision(group.board).contenders}
    names = (variant, f"{variant} ({group.board.model})")  # the second where models are compared too
    return format_expected(next(contenders[name] for name in names if name in contenders))


def format_draws(study: StudyAnalysis, group: GroupAnalysis, variant: str) -> str:
    return str(next(row.draws for row in group.board.rows if row.variant == variant))


def format_worth(
    study: StudyAnalysis, group: GroupAnalysis, figure: str, variant: str, test_set: str = IN_DOMAIN
) -> str:
    """Word what a variant's probabilities are worth by a figure such as auroc, or its mean score: `score`."""
    steady = group.stability[variant]
    names = weigh_test_sets(group.board.test_sets, 1.0) if test_set == OUTSIDE else [test_set]
    if figure == "score":
        return format_score(fmean(steady.bounds[name].mean for name in names))
    return format_score(fmean(steady.without_threshold[name][figure] for name in names))


FIGURES: Mapping[str, Callable[..., str]] = {
    "mean": format_mean,
    "interval": format_interval,
    "reference": format_reference,
    "difference": format_difference,
    "answer": format_answer,
    "answered": format_answered,
    "majority": format_majority,
    "worth": format_worth,
    "fit": format_fit,
    "latency": format_latency,
    "parameters": format_parameters,
    "memory": format_peak_memory,
    "verdict": format_verdict,
    "decision": lambda study, group: format_decision(study.decision(group.board)),
    "loss": format_loss,
    "regret": format_regret,
    "draws": format_draws,
}


Group = tuple[StudyAnalysis, GroupAnalysis]
"""A study and one of its groups."""
FIGURES_BESIDE: Mapping[str, Callable[..., str]] = {"above_reference": format_above_reference}
"""Those of a group and the group of another study at the same place, whose folder is the second argument."""


def format_trial_seconds(folder: Path) -> str:
    """Word the seconds of all trials that were measured phase by phase."""
    return format_seconds(sum(sum_phases(load_records(folder)).values()))


def format_phase_share(folder: Path, *phases: str) -> str:
    """Word the share of phases in the seconds of all trials: '70%'."""
    sums = sum_phases(load_records(folder))
    return format_share(sum(sums[phase] for phase in phases) / sum(sums.values()))


def format_wall(folder: Path) -> str:
    """Word the wall time of the commands that ran a study, each from its first trial to the last event it kept."""
    events = load_events(folder)
    starts = [index for index, event in enumerate(events) if event["event"] == "run"]
    ends = [*(index - 1 for index in starts[1:]), len(events) - 1]
    return format_seconds(sum(events[b]["time"] - events[a]["time"] for a, b in zip(starts, ends, strict=True)))


def format_trials(folder: Path) -> str:
    """Word how many trials were done."""
    return str(sum(record.status == "done" for record in load_records(folder)))


def format_fixed_trials(folder: Path, draws: str) -> str:
    """Word how many trials so many draws of every variant would be."""
    return str(int(draws) * len(_list_seconds(folder)))


def format_fixed_seconds(folder: Path, draws: str) -> str:
    """Word the seconds of so many draws of every variant, each trial as long as the variant's mean."""
    return format_seconds(int(draws) * sum(map(fmean, _list_seconds(folder).values())))


def _list_seconds(folder: Path) -> dict[str, list[float]]:
    """The seconds of each variant's done trials."""
    found: dict[str, list[float]] = {}
    for record in load_records(folder):
        if record.status == "done":
            found.setdefault(record.trial.variant, []).append(sum(record.phase_seconds.values()))
    return found


STUDY_FIGURES: Mapping[str, Callable[..., str]] = {
    "seconds": format_trial_seconds,
    "share": format_phase_share,
    "wall": format_wall,
    "trials": format_trials,
    "fixed_trials": format_fixed_trials,
    "fixed_seconds": format_fixed_seconds,
}


@cache
def _analyse(folder: Path) -> StudyAnalysis:
    return analyse_folder(folder)


def derive(folder: str, place: str, what: str, results: Path = RESULTS) -> str:
    """Derive one figure; raises ValueError naming what is not there."""
    name, *arguments = what.split()
    try:
        if place.strip() == "all":
            return STUDY_FIGURES[name](results / folder.strip(), *arguments)
        study, group = _find_group(results / folder.strip(), place.strip())
        if name in FIGURES_BESIDE:
            own, beside, *others = arguments
            return FIGURES_BESIDE[name]((study, group), _find_group(results / beside, place.strip()), own, *others)
        return FIGURES[name](study, group, *arguments)
    except (KeyError, StopIteration, StatisticsError, TypeError) as error:
        raise ValueError(f"no such figure: {folder.strip()} | {place.strip()} | {what}") from error


def _find_group(folder: Path, place: str) -> Group:
    study = _analyse(folder)
    return study, {f"{g.board.task} {g.board.model} {g.board.shots}": g for g in study.groups}[place]


class Table(BaseModel):
    """What a table shows: a row for each name, a column for each figure of it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    study: str
    """Its folder below `results/`."""
    head: str
    """What stands above the rows' names."""
    columns: dict[str, str]
    """`GROUP | FIGURE` by heading. `{row}` stands for the row's name; of a row `NAME (MODEL)` for NAME, `{model}` for
    MODEL."""
    rows: list[str]

    def write(self, results: Path) -> str:
        """The table as Markdown, from the records; methods that learnt from rows without labels too have a mark."""
        boards = [group.board for group in _analyse(results / self.study).groups]
        unlabelled = {each.variant for board in boards for each in board.rows if each.unlabelled}
        marked, claims = False, self._correct_claims(results)
        lines = [[self.head, *self.columns], ["---"] * (1 + len(self.columns))]
        for row in self.rows:
            name, _, model = row.removesuffix(")").partition(" (")
            columns = [column.replace("{row}", name).replace("{model}", model) for column in self.columns.values()]
            cells = [
                claims.get((place.strip(), what.strip())) or derive(self.study, place, what, results)
                for place, _, what in (column.partition("|") for column in columns)
            ]
            named = [f"{each}\\{UNLABELLED_MARK}" if each in unlabelled else each for each in name.split()]
            marked = marked or not unlabelled.isdisjoint(name.split())
            lines.append([" − ".join(named) + (f" ({model})" if model else ""), *cells])
        note = f"\n\\{UNLABELLED_NOTE}\n" if marked else ""
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + note

    def _correct_claims(self, results: Path) -> dict[tuple[str, str], str]:
        """What the cells that claim an answer say, all of the table's corrected together by Holm's rule.

        Source: Holm 1979, https://www.jstor.org/stable/4615733. A cell without a p counts as a claim.
        """
        cells = [
            tuple(part.strip() for part in column.replace("{row}", row).split("|"))
            for row in self.rows
            for column in self.columns.values()
            if column.partition("|")[2].split()[0] == "answered"
        ]
        found: dict[tuple[str, str], Comparison] = {}
        for place, what in cells:
            study, group = _find_group(results / self.study, place)
            found[place, what] = compare_on(study, group, *what.split()[1:])
        corrected = correct_steps([each.p for each in found.values()], range(1, len(found) + 1))
        return {
            cell: format_claim(replace(each, answer="cannot tell") if _is_lost(each, p) else each)
            for (cell, each), p in zip(found.items(), corrected, strict=True)
        }


def _is_lost(comparison: Comparison, corrected: float | None) -> bool:
    """Whether a claim does not hold once it is corrected for all others of its table."""
    return comparison.answer in ("better", "worse") and (corrected is None or corrected > LEVEL)


def load_tables(results: Path) -> dict[str, Table]:
    """Every table by name."""
    path = results / "tables.yaml"
    tables = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: Table.model_validate(table) for name, table in tables.items()}


def write_decisions(results: Path) -> str:
    """Every committed cell decided by both rules, as Markdown."""
    heads = [
        "study",
        "task, rows",
        "draws",
        "by expected loss",
        "expected to lose",
        "risk",
        "by a bound of 95 %",
        "at most",
    ]
    lines = [heads, ["---"] * len(heads)]
    for folder in sorted(path.parent for path in results.glob("*/records.jsonl")):
        study = _analyse(folder)
        boards = [group.board for group in study.groups]
        bounds = recommend(boards, study.records, study.reader, replace(study.terms, guarantee="bound"))
        losses = recommend(boards, study.records, study.reader, replace(study.terms, guarantee="expected_loss"))
        for loss, bound in zip(losses, bounds, strict=True):
            if len(loss.compared) < 2 or loss.choice is None or loss.choice.loss is None:
                continue
            lines.append(
                [
                    folder.name,
                    f"{loss.question.task}, {loss.question.shots}",
                    str(loss.draws),
                    _name_choice(loss),
                    f"{format_lost(loss.choice.loss.expected)}",
                    f"{100 * loss.choice.loss.risk:.1f} %",
                    _name_choice(bound) if bound.settled else UNKNOWN,
                    UNKNOWN if bound.regret is None or not bound.settled else format_lost(bound.regret, up=True),
                ]
            )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _name_choice(decision: Decision) -> str:
    name = decision.choice.name if decision.choice is not None else UNKNOWN
    return name if decision.settled else f"best bet: {name}"


def write_table(name: str, results: Path) -> str:
    """One table; raises ValueError where there is none of that name."""
    if name == DECISIONS:
        return write_decisions(results)
    tables = load_tables(results)
    if name not in tables:
        raise ValueError(f"no such table: {name}; tables.yaml has {', '.join(tables) or 'none'}")
    return tables[name].write(results)


def fill_figures(text: str, results: Path = RESULTS) -> str:
    """A document with every table and figure as the records give it."""

    def fill_table(found: re.Match[str]) -> str:
        return f"{found['opening']}{write_table(found['name'], results)}<!-- /table -->"

    def fill(found: re.Match[str]) -> str:
        opening = found.group()[: found.group().index("-->") + 3]
        return f"{opening}{derive(found['folder'], found['group'], found['what'], results)}<!--/fig-->"

    return FIGURE.sub(fill, TABLE.sub(fill_table, text))


def find_unmarked(text: str) -> list[str]:
    """Lines of the stated parts of a document in which a decimal stands outside of figures and tables."""
    parts = [FIGURE.sub("", TABLE.sub("", part)) for part in STATED.findall(text)]
    return [line.strip() for part in parts for line in part.splitlines() if DECIMAL.search(line)]


def list_differences(name: str, text: str, results: Path = RESULTS) -> list[str]:
    """Say what in a document is not what the records give."""
    faults = [f"{name}: a figure without its source: {line}" for line in find_unmarked(text)]
    for found in FIGURE.finditer(text):
        given = derive(found["folder"], found["group"], found["what"], results)
        if given != found["stated"]:
            faults.append(
                f"{name}: {found['what'].strip()} of {found['folder'].strip()} is {given!r}, stated {found['stated']!r}"
            )
    for found in TABLE.finditer(text):
        given = write_table(found["name"], results)
        stated = found["stated"].splitlines()
        differing = [line for line in given.splitlines() if line not in stated]
        if given != found["stated"]:
            faults.append(f"{name}: table {found['name']} is not what its records give: {differing[:1]}")
    return faults


def main() -> None:
    """Check every document, or write it anew."""
    if sys.argv[1:] == ["--write"]:
        for path in DOCUMENTS:
            path.write_text(fill_figures(path.read_text(encoding="utf-8")), encoding="utf-8")
    faults = [
        fault
        for path in DOCUMENTS
        for fault in list_differences(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    print("\n".join(faults) or f"every stated figure of {len(DOCUMENTS)} documents is what its records give")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
