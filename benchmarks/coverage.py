"""How often intervals hold the truth, and how often a verdict finds a difference where there is none.

    python -m benchmarks.coverage [PART ...]   prints every cell and writes benchmarks/results/coverage.json

Parts are pairs, leaders, floors, decisions and looks; where some are named the others' figures are kept.

Made-up methods answer 500 rows a draw; two of them differ on four rows in ten. Their true difference in a draw is
normal about zero with the deviation named; or, besides, one draw in seven collapses: the second method loses 20 points
there, and gains on the others what keeps the mean at zero; or all draws share their test rows, and on so large a share
of them the two methods answer as in every other draw. Intervals and answers are those that fewtune gives. In the second
table a leader is the best of so many methods that do not differ, and is compared with each of the others; or half of
them are ten points below the others, and it is counted how many of these it is called better than. In the third it is
compared with always answering the commonest label, which all methods equal, or which all are ten points above.

The fourth is of decisions among nine methods. In one half of its studies one is the best and all others are below it by
the tolerance: there a bound is wrong where any method's is less than that. In the other half all are equal: there no
"better" is right.

The fifth is of the same studies, looked at more than once: as a race does, or by a user who has three draws, adds as
many as the decision says are missing, and looks again, until something is decided. A study counts as wrong where any
bound was at any look, and as a false "better" where the leader was called better than any other at any look.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.markdown import write_markdown
from benchmarks.race.results import describe_commit
from fewtune.analysis import statistics
from fewtune.analysis.answers import DrawAnswers, VariantAnswers, answer_commonest
from fewtune.analysis.comparison import Comparison, apply_rule, compare, correct_leader, correct_selected
from fewtune.analysis.decision import WITHIN, Contender, Decision, Question, decide
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.analysis.looks import LOOKS, choose_level, plan_looks
from fewtune.records import Look, LookHistory

ROWS, RESAMPLES, REPETITIONS, GROUPS = 500, 400, 4000, 600
DISAGREE = 0.4
"""Share of rows on which two methods answer differently."""
COLLAPSE, LOSS = 1 / 7, 0.2
RIGHT = 0.75
"""Share of rows that each of several methods answers right."""
LOWER = 0.1
ONES = np.ones(ROWS, dtype=np.int64)
DRAWS = (3, 5, 10)
DEVIATIONS = ((0.03, 0.03), (0.01, 0.08))
"""Of the methods of a group, over draws: the least and the most."""
MOST_DRAWS = 40
"""After which a user gives up adding some by hand."""
METHODS, STUDIES, LOOKED_AT = 9, 300, 60
"""Of each study that is decided, and how many of each kind."""


@dataclass(frozen=True)
class Kind:
    """How the methods of a study vary over draws: their deviations (least, most), collapses, rows that draws share.

    `steady` is the share of rows on which a method answers as in every other draw; None: each draw has its own rows.
    """

    name: str
    deviations: tuple[float, float] = (0.03, 0.03)
    collapses: bool = False
    steady: float | None = None


KINDS = (
    Kind("3 points"),
    Kind("1 to 8 points", (0.01, 0.08)),
    Kind("3 points, one in seven collapses", collapses=True),
    *(Kind(f"3 points, rows shared, {100 * share:g} % alike", steady=share) for share in (0.5, 0.75, 0.9, 0.97)),
)


def draw_shifts(draws: int, deviation: float, collapses: bool, rng: np.random.Generator) -> np.ndarray:
    """True differences (draws,) whose mean over all draws there could be is zero."""
    shifts = rng.normal(0.0, deviation, draws)
    if collapses:
        shifts += LOSS * ((rng.random(draws) < COLLAPSE) - COLLAPSE)
    return np.clip(shifts, -DISAGREE, DISAGREE)


def bound_pair(shifts: Sequence[float], steady: float | None, rng: np.random.Generator) -> statistics.Interval:
    """The interval of two methods' difference; `steady`: all draws share their rows, None: each has its own."""
    chances = [[(DISAGREE + shift) / 2, (DISAGREE - shift) / 2, 1 - DISAGREE] for shift in (0.0, *shifts)]
    always, *rows = [rng.choice([1.0, -1.0, 0.0], size=ROWS, p=chance) for chance in chances]
    if steady is not None:
        rows = [np.where(rng.random(ROWS) < steady, always, each) for each in rows]
    names = [np.arange(ROWS) + (0 if steady is not None else ROWS * draw) for draw in range(len(rows))]
    draws = [statistics.subtract_rows(each, own, rng) for each, own in zip(rows, names, strict=True)]
    return statistics.bound_difference(draws, RESAMPLES, rng)


def measure_pairs(
    draws: int, deviation: float, collapses: bool, steady: float | None, repetitions: int, seed: int = 0
) -> dict[str, float]:
    """Shares of repetitions in which the interval holds zero, and in which the answer is "better"."""
    rng = np.random.default_rng(seed)
    found = [bound_pair(draw_shifts(draws, deviation, collapses, rng), steady, rng) for _ in range(repetitions)]
    return {
        "covered": float(np.mean([interval.low <= 0 <= interval.high for interval in found])),
        "better": float(np.mean([apply_rule(interval)[0] == "better" for interval in found])),
        "worse": float(np.mean([apply_rule(interval)[0] == "worse" for interval in found])),
    }


def measure_leaders(
    methods: int, draws: int, deviations: tuple[float, float], groups: int, seed: int = 0
) -> dict[str, float]:
    """Share of groups in which the leader is called better than an equal, with the correction and without.

    Methods' deviations over draws go from the first to the last in equal ratios. `told`: in other groups, of which half
    are LOWER than the rest, the share of these that a leader is called better than.
    """
    rng = np.random.default_rng(seed)
    each = np.geomspace(*deviations, methods)
    equal = [judge_group([answer_rows(draws, d, RIGHT, rng) for d in each], rng) for _ in range(groups)]
    levels = [RIGHT - LOWER * (m % 2) for m in range(methods)]
    apart = [
        judge_group([answer_rows(draws, d, right, rng) for d, right in zip(each, levels, strict=True)], rng)
        for _ in range(groups // 3)
    ]
    below = [found[1].get(m, False) for found in apart for m in range(1, methods, 2)]
    return {
        "plain": float(np.mean([any(plain.values()) for plain, _ in equal])),
        "corrected": float(np.mean([any(corrected.values()) for _, corrected in equal])),
        "told": float(np.mean(below)),
    }


def measure_floors(
    methods: int, draws: int, deviations: tuple[float, float], groups: int, seed: int = 0
) -> dict[str, float]:
    """Share of groups in which the leader is called better than the commonest label, which all methods equal.

    `told`: in other groups, where all are LOWER above it. Deviations are as in `measure_leaders`.
    """
    rng = np.random.default_rng(seed)
    gold = (np.arange(ROWS) < RIGHT * ROWS).astype(np.int64)

    def judge(right: float) -> tuple[bool, bool]:
        return judge_floor([answer_rows(draws, d, right, rng, gold) for d in np.geomspace(*deviations, methods)], rng)

    equal, apart = [judge(RIGHT) for _ in range(groups)], [judge(RIGHT + LOWER) for _ in range(groups // 3)]
    return {
        "plain": float(np.mean([plain for plain, _ in equal])),
        "corrected": float(np.mean([corrected for _, corrected in equal])),
        "told": float(np.mean([corrected for _, corrected in apart])),
    }


def judge_floor(answers: Sequence[VariantAnswers], rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether the leader is called better than the commonest label answered always, without and with the correction."""
    leader, others = compare_leader(answers, rng)
    plain = compare(answers[leader], answer_commonest(answers[leader]), "accuracy", rng, RESAMPLES)
    corrected = correct_selected(plain, len(answers), others.values())
    return plain.answer == "better", corrected.answer == "better"


def compare_leader(answers: Sequence[VariantAnswers], rng: np.random.Generator) -> tuple[int, dict[str, Comparison]]:
    """The method with the highest mean, and its comparisons with each other one by its number, as they are."""
    means = [np.mean([np.mean(s[IN_DOMAIN].predicted == s[IN_DOMAIN].gold) for s in each.values()]) for each in answers]
    leader = int(np.argmax(means))
    found = {
        str(m): compare(answers[leader], other, "accuracy", rng, RESAMPLES)
        for m, other in enumerate(answers)
        if m != leader
    }
    return leader, found


def judge_group(answers: Sequence[VariantAnswers], rng: np.random.Generator) -> tuple[dict[int, bool], dict[int, bool]]:
    """Whether the leader of a group is called better than each other method, without and with the correction."""
    _, found = compare_leader(answers, rng)
    plain, corrected = (
        {int(m): comparison.answer == "better" for m, comparison in each.items()}
        for each in (found, correct_leader(found))
    )
    return plain, corrected


def answer_rows(
    draws: int, deviation: float, right: float, rng: np.random.Generator, gold: np.ndarray = ONES
) -> VariantAnswers:
    """One method's answers to rows with gold labels (rows,): right on a share that differs from draw to draw."""
    shares = np.clip(right + rng.normal(0.0, deviation / np.sqrt(2), draws), 0, 1)
    return {
        (draw, ""): {
            IN_DOMAIN: DrawAnswers(
                gold, np.where(rng.random((1, ROWS)) < share, gold, 1 - gold), 2, ROWS * draw + np.arange(ROWS)
            )
        }
        for draw, share in enumerate(shares)
    }


def measure_decisions(kind: Kind, draws: int, studies: int, seed: int = 0) -> dict[str, float]:
    """Shares of studies with any wrong bound, and with any false "better"; of those decided, and what choices lose."""
    rng = np.random.default_rng(seed)
    wrong, better, lost = [], [], []
    for _ in range(studies):
        lower = [0.0, *[WITHIN] * (METHODS - 1)]
        found = decide_made_up(make_study(kind, draws, lower, rng))
        bounds = {c.name: 1.0 if c.regret is None or c.regret.bound is None else c.regret.bound for c in found.compared}
        wrong.append(any(bounds[str(m)] < below for m, below in enumerate(lower)))
        if found.chosen is not None:
            lost.append(lower[int(found.chosen.name)])
        better.append(any(judge_group(make_study(kind, draws, [0.0] * METHODS, rng), rng)[1].values()))
    return {
        "wrong": float(np.mean(wrong)),
        "better": float(np.mean(better)),
        "decided": len(lost) / studies,
        "lost": float(np.mean(lost)) if lost else 0.0,
    }


def make_study(kind: Kind, draws: int, lower: Sequence[float], rng: np.random.Generator) -> list[VariantAnswers]:
    """Methods that are right on a share of RIGHT less what each is lower by, in the mean over all draws."""
    deviations = np.geomspace(*kind.deviations, len(lower))
    found = []
    for place, (below, deviation) in enumerate(zip(lower, deviations, strict=True)):
        shares = RIGHT - below + rng.normal(0.0, deviation / np.sqrt(2), draws)
        if kind.collapses and place % 2:
            shares -= LOSS * ((rng.random(draws) < COLLAPSE) - COLLAPSE)
        # A row is answered right where its own number is below the share: the same number in every draw, or a new one.
        always = rng.random(ROWS)
        method = {}
        for draw, share in enumerate(np.clip(shares, 0, 1)):
            alike = rng.random(ROWS) < (kind.steady or 0.0)
            right = np.where(alike, always < RIGHT - below, rng.random(ROWS) < share)
            codes = np.arange(ROWS) + (0 if kind.steady is not None else ROWS * draw)
            method[draw, ""] = {IN_DOMAIN: DrawAnswers(ONES, right.astype(np.int64)[None], 2, codes)}
        found.append(method)
    return found


def decide_made_up(answers: Sequence[VariantAnswers]) -> Decision:
    """The decision among methods that cost the more the better they are."""
    named = {str(m): each for m, each in enumerate(answers)}
    contenders = [Contender(name, 0.0, float(-int(name)), 1.0, 1) for name in named]
    return decide(Question("made-up", 16, "accuracy", WITHIN), contenders, named)


@dataclass(frozen=True)
class Course:
    """How a study went that was looked at more than once."""

    wrong: bool
    better: bool
    decided: bool
    lost: float
    trials: int


def race(answers: Sequence[VariantAnswers], lower: Sequence[float], rng: np.random.Generator) -> Course:
    """A race: planned looks, methods that are not the best stop, the end where one is bounded within the tolerance."""
    have = dict.fromkeys(range(len(answers)), 0)
    history, running, marks = LookHistory(plan=plan_looks(LOOKS[-1])), set(have), []
    for draws in history.plan:
        have |= dict.fromkeys(running, draws)
        found, history = look(answers, have, history, rng)
        marks.append((is_wrong(found.decision, lower), found.better))
        if found.decision.chosen is not None:
            break
        running -= {int(c.name) for c in found.decision.compared if c.regret is not None and c.regret.above is not None}
    return end_course(found.decision, marks, lower, sum(have.values()))


def follow(answers: Sequence[VariantAnswers], lower: Sequence[float], rng: np.random.Generator) -> Course:
    """A user who adds the draws that are said to be missing, to all methods, until there is a decision or no draw."""
    draws, marks, history = LOOKS[0], [], LookHistory(plan=LOOKS[:1])
    while True:
        found, history = look(answers, dict.fromkeys(range(len(answers)), draws), history, rng)
        marks.append((is_wrong(found.decision, lower), found.better))
        missing = found.decision.missing
        if missing is None or draws == MOST_DRAWS:
            return end_course(found.decision, marks, lower, draws * len(answers))
        draws = min(MOST_DRAWS, draws + (missing.draws or MOST_DRAWS))


@dataclass(frozen=True)
class Seen:
    """What one look showed: the decision, and whether the leader was called better than any other."""

    decision: Decision
    better: bool


def look(
    answers: Sequence[VariantAnswers], have: Mapping[int, int], history: LookHistory, rng: np.random.Generator
) -> tuple[Seen, LookHistory]:
    """Look at methods on as many draws as each has, at the level that is left for it."""
    now = Look(task="made-up", shots=16, draws=max(have.values()), methods=len(answers), level=statistics.LEAST_LEVEL)
    now = now.model_copy(update={"level": choose_level(history, now)})
    seen = {str(m): {key: answers[m][key] for key in list(answers[m])[:count]} for m, count in have.items()}
    contenders = [
        Contender(name, 0.0, float(-int(name)), 1.0, 1, None if len(draws) == now.draws else "stopped")
        for name, draws in seen.items()
    ]
    decision = decide(Question("made-up", 16, "accuracy", WITHIN, now.level), contenders, seen)
    means = {name: np.mean([rows[IN_DOMAIN].predicted.mean() for rows in d.values()]) for name, d in seen.items()}
    full = [name for name, draws in seen.items() if len(draws) == now.draws]
    leader = max(full, key=lambda name: means[name])
    others = {
        name: compare(seen[leader], draws, "accuracy", rng, resamples=RESAMPLES)
        for name, draws in seen.items()
        if name != leader
    }
    better = any(c.answer == "better" for c in correct_leader(others, level=now.level).values())
    return Seen(decision, better), history.model_copy(update={"looks": (*history.looks, now)})


def is_wrong(found: Decision, lower: Sequence[float]) -> bool:
    """Whether any method's bound is less than what it is below the best."""
    bounds = {c.name: 1.0 if c.regret is None or c.regret.bound is None else c.regret.bound for c in found.compared}
    return any(bounds[str(m)] < below for m, below in enumerate(lower) if str(m) in bounds)


def end_course(found: Decision, marks: Sequence[tuple[bool, bool]], lower: Sequence[float], trials: int) -> Course:
    wrong, better = (any(each) for each in zip(*marks, strict=True))
    lost = lower[int(found.chosen.name)] if found.chosen is not None else 0.0
    return Course(wrong, better, found.chosen is not None, lost, trials)


def measure_looks(kind: Kind, how: str, studies: int, seed: int = 0) -> dict[str, float]:
    """Shares of studies with a wrong bound, or a false "better", at any look; trials to the end, and what is lost."""
    rng = np.random.default_rng(seed)
    take, draws = (race, LOOKS[-1]) if how == "race" else (follow, MOST_DRAWS)
    apart, equal = [0.0, *[WITHIN] * (METHODS - 1)], [0.0] * METHODS
    ones = [take(make_study(kind, draws, apart, rng), apart, rng) for _ in range(studies)]
    others = [take(make_study(kind, draws, equal, rng), equal, rng) for _ in range(studies)]
    return {
        "wrong": float(np.mean([each.wrong for each in ones])),
        "better": float(np.mean([each.better for each in others])),
        "decided": float(np.mean([each.decided for each in ones])),
        "lost": float(np.mean([each.lost for each in ones if each.decided] or [0.0])),
        "trials": float(np.mean([each.trials for each in ones])),
        "trials_equal": float(np.mean([each.trials for each in others])),
    }


def write_table(results: dict[str, Any]) -> str:
    """The tables as Markdown."""
    pairs = [
        [
            f"{100 * cell['deviation']:g} points",
            "one in seven collapses" if cell["collapses"] else "–",
            "own" if cell["steady"] is None else f"shared, {100 * cell['steady']:.0f} % alike",
            str(cell["draws"]),
            *(f"{100 * cell[key]:.1f} %" for key in ("covered", "better", "worse")),
        ]
        for cell in results["pairs"]
    ]
    head = (
        "draws differ by",
        "and",
        "test rows",
        "draws",
        "interval holds the truth",
        'false "better"',
        'false "worse"',
    )
    groups = [
        _write_groups(results[of], told)
        for of, told in (("leaders", "10 points less told"), ("floors", "10 points more told"))
    ]
    decided = ""
    if "decisions" in results:  # measured by itself, after the others
        decided = (
            f"Decisions among {METHODS} methods, {100 * WITHIN:g} points of tolerance, {results['studies']} studies a "
            f"row for bounds and as many of equal methods:\n\n{_write_decisions(results['decisions'])}\n\n"
        )
    looked_at = ""
    if "looks" in results:
        looked_at = (
            "Such studies looked at more than once, by a race and by adding the draws that are said to be missing, "
            f"{results['looked_at']} of each kind:\n\n{_write_looks(results['looks'])}\n\n"
        )
    return (
        f"{write_markdown(head, pairs)}\n\nThe leader against each other method:\n\n{groups[0]}\n\n"
        f"The leader against always answering the commonest label:\n\n{groups[1]}\n\n"
        f"{decided}{looked_at}"
        f"{results['repetitions']} repetitions of {results['rows']} rows a draw; {results['groups']} groups of methods."
    )


def _write_groups(cells: Sequence[dict[str, Any]], told: str) -> str:
    rows = [
        [
            str(cell["methods"]),
            " to ".join(dict.fromkeys(f"{100 * end:g}" for end in cell["deviations"])) + " points",
            str(cell["draws"]),
            *(f"{100 * cell[key]:.1f} %" for key in ("plain", "corrected", "told")),
        ]
        for cell in cells
    ]
    uncorrected, corrected = (f'a false "better", {how}' for how in ("uncorrected", "as fewtune answers"))
    return write_markdown(("methods", "draws differ by", "draws", uncorrected, corrected, told), rows)


def _write_decisions(cells: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            cell["kind"],
            str(cell["draws"]),
            str(METHODS * cell["draws"]),
            *(f"{100 * cell[key]:.1f} %" for key in ("wrong", "better", "decided")),
            f"{100 * cell['lost']:.1f} points",
        ]
        for cell in cells
    ]
    heads = ("draws differ by", "draws", "trials", "any bound wrong", 'a false "better"', "decided", "a choice loses")
    return write_markdown(heads, rows)


def _write_looks(cells: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            cell["kind"],
            cell["how"],
            *(f"{100 * cell[key]:.1f} %" for key in ("wrong", "better", "decided")),
            f"{100 * cell['lost']:.1f} points",
            f"{cell['trials']:.0f}",
            f"{cell['trials_equal']:.0f}",
        ]
        for cell in cells
    ]
    heads = ("draws differ by", "looks", "any bound wrong", 'a false "better"', "decided", "a choice loses")
    return write_markdown((*heads, "trials, one ahead", "trials, all equal"), rows)


def measure_parts() -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """What measures the cells of each table."""
    kinds = ((False, None), (False, 0.5), (False, 0.9), (True, None))

    def pairs() -> list[dict[str, Any]]:
        return [
            {"draws": draws, "deviation": deviation, "collapses": collapses, "steady": steady}
            # Each from a seed of its own: what chance does to one cell is not done to all.
            | measure_pairs(draws, deviation, collapses, steady, REPETITIONS, seed)
            for seed, ((collapses, steady), deviation, draws) in enumerate(
                product(kinds, (0.0, 0.02, 0.05, 0.1), DRAWS)
            )
        ]

    def groups(measure: Callable[..., dict[str, float]]) -> list[dict[str, Any]]:
        return [
            {"methods": methods, "draws": draws, "deviations": deviations} | measure(methods, draws, deviations, GROUPS)
            for methods in (3, 6, 10)
            for deviations in DEVIATIONS
            for draws in DRAWS
        ]

    def decisions() -> list[dict[str, Any]]:
        return [
            {"kind": kind.name, "draws": draws} | measure_decisions(kind, draws, STUDIES, seed)
            for seed, (kind, draws) in enumerate(product(KINDS, DRAWS))
        ]

    def looks() -> list[dict[str, Any]]:
        cells = list(product(KINDS, ("race", "by hand")))
        with ProcessPoolExecutor() as processes:  # these take longest by far
            waiting = [
                processes.submit(measure_looks, kind, how, LOOKED_AT, seed) for seed, (kind, how) in enumerate(cells)
            ]
            return [
                {"kind": kind.name, "how": how} | each.result()
                for (kind, how), each in zip(cells, waiting, strict=True)
            ]

    return {
        "pairs": pairs,
        "leaders": lambda: groups(measure_leaders),
        "floors": lambda: groups(measure_floors),
        "decisions": decisions,
        "looks": looks,
    }


def main() -> None:
    """Measure every cell of the parts that are named, of all where none is."""
    path = ROOT / "benchmarks" / "results" / "coverage.json"
    parts = measure_parts()
    named = sys.argv[1:] or list(parts)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and len(named) < len(parts) else {}
    found |= {"rows": ROWS, "repetitions": REPETITIONS, "groups": GROUPS, "studies": STUDIES, "looked_at": LOOKED_AT}
    commits = found.get("commits", {})
    for part in named:
        found[part] = parts[part]()
        commits[part] = describe_commit()
        for cell in found[part]:
            print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in cell.items()))
    found["commits"] = commits
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
