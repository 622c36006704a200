"""A recommendation in words, and in a terminal.

Owns the sentences around an answer. Does not know the rule (`analysis.recommend`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from fewtune.analysis.recommend import Candidate, Recommendation
from fewtune.report.tables import UNKNOWN, word_score, word_seconds, word_standing
from fewtune.terminal import make_text


def word_answer(advice: Recommendation) -> str:
    """Word the answer: 'Use pattern.', or 'Cannot tell: ia3 is the cheapest not ruled out, pattern scores highest.'"""
    if advice.chosen is None:
        return f"Cannot tell: {advice.reasons[0]}."
    if advice.answer == "use":
        return f"Use {advice.chosen}."
    if advice.chosen == advice.best:
        return (
            f"Cannot tell: {advice.chosen} scores highest{advice.among}, but is not credibly above the commonest label."
        )
    return f"Cannot tell: {advice.chosen} is the {advice.choice}, {advice.best} scores highest{advice.among}."


def word_risk(advice: Recommendation) -> str | None:
    """Word what it may cost to be wrong; None where nothing is chosen."""
    if advice.chosen is None:
        return None
    if advice.rival is None or advice.at_risk is None:
        eligible = sum(candidate.excluded is None for candidate in advice.candidates)
        why = "no other is eligible" if eligible == 1 else "all others within the budget were credibly worse"
        return f"What it costs to be wrong: nothing is known to be near; {why}."
    if advice.at_risk == 0:
        return "What it costs to be wrong: no method that was not ruled out can be expected to score more."
    return (
        f"What it costs to be wrong about {advice.chosen}: {advice.rival} may score up to {100 * advice.at_risk:.1f} "
        "points more (the end of the 95 % interval)."
    )


def word_further_trials(advice: Recommendation) -> str | None:
    """Word which trials would change the answer; None where none would."""
    return f"What would change the answer: {'; '.join(advice.further)}." if advice.further else None


def show_advice(console: Console, advices: Sequence[Recommendation]) -> None:
    """Print every recommendation with its evidence."""
    for advice in advices:
        shots = f"{advice.shots} shot{'s' if advice.shots != 1 else ''}"
        console.print()
        console.print(make_text(f"{advice.task} · {shots}", style="bold"))
        lines = [make_text(word_answer(advice), style="bold")]
        lines += [make_text(f"- {reason}") for reason in advice.reasons]
        lines += [
            make_text(f"- {line}") for line in (word_risk(advice), word_further_trials(advice)) if line is not None
        ]
        for line in lines:
            console.print(Padding(line, (0, 0, 0, 1)))
        console.print(Padding(_tabulate(advice), (1, 0, 0, 1)))


def _word_place(advice: Recommendation, candidate: Candidate) -> str:
    """Word why a candidate is chosen or not, in a few words; 'cannot tell' chooses none."""
    if candidate.excluded is not None:
        return f"not eligible: {candidate.excluded}"
    mark = "chosen" if advice.answer == "use" else advice.choice
    chosen = [mark] * (candidate.name == advice.chosen)
    if candidate.name == advice.best:
        return "; ".join([*chosen, f"highest mean{advice.among}"])
    return "; ".join([*chosen, word_standing(candidate.best_against_it)])


def _tabulate(advice: Recommendation) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("method", overflow="fold", min_width=12)
    table.add_column(make_text(advice.metric), justify="right")
    table.add_column(make_text("fit and\nqueries"), justify="right")
    table.add_column("against the highest mean, points", overflow="fold")
    for candidate in advice.candidates:
        score = word_score(candidate.score) if candidate.score is not None else UNKNOWN
        standing = make_text(_word_place(advice, candidate))
        table.add_row(make_text(candidate.name), score, word_seconds(candidate.seconds), standing)
    return table
