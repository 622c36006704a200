"""A decision in words, and in a terminal."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from fewtune.analysis.decision import Contender, Decision, Lead, Missing, MoreRows, Question
from fewtune.analysis.regret import RegretBound
from fewtune.report.advice import show_decisions
from fewtune.report.race import tabulate_race
from fewtune.report.wording import explain_decision, word_decision

PATTERN = Contender("pattern", 0.8, 9.0, 9.0, 1, None, 8.0, 0.001, 2**30, True, False, RegretBound(0.0201, "lora", 5))
LORA = Contender("lora", 0.79, 2.0, 2.0, 1, None, 1.5, 0.0042, 2**29, False, True, RegretBound(0.0412, "pattern", 5))
VANILLA = Contender("vanilla", None, 99.0, 99.0, 1, "99 seconds to fit, over 10")


def decide(chosen: Contender | None, missing: Missing | None = None, lead: float = 0.1) -> Decision:
    question = Question("sentiment", 16, "accuracy")
    held = (PATTERN, LORA, VANILLA)
    return Decision(question, chosen, "pattern", 5, held, missing, Lead(lead + 0.05, lead) if chosen else None)


def test_a_choice_says_what_it_may_lose_and_costs() -> None:
    assert word_decision(decide(PATTERN)) == (
        "Use pattern: within 2.1 points of the best, costs 8.00 s to fit, 1.00 ms a row and 1.00 GiB."
    ), "a bound is never understated"
    assert word_decision(decide(LORA, lead=-0.01)).endswith(
        "; not credibly above always answering the commonest label."
    )


def test_what_is_missing_is_told_in_draws_trials_and_time() -> None:
    missing = Missing(6, ("pattern", "lora"), 12, 1500.0, "pattern")
    assert word_decision(decide(None, missing)) == (
        "No method is known to be within 3 points of the best: closest is pattern, within 2.1 points; about 6 further "
        "draws of pattern and lora (12 trials, 25 min one after another) would bring one there."
    )
    assert word_decision(decide(None, Missing(None, ("pattern",), None, None, "pattern"))).endswith(
        "100 further draws like these would not bring one there."
    )
    more = MoreRows(5, draws=12)
    assert word_decision(decide(None, Missing(None, ("pattern",), None, None, "pattern", more))).endswith(
        "100 further draws like these would not bring one there; with about 5 times as many "
        "labelled rows to draw from and to test on, at the same shots, about 12 draws would."
    )
    assert "on one draw: a second draw of pattern and lora (2 trials, 11 s one after another)" in word_decision(
        decide(None, Missing(1, ("pattern", "lora"), 2, 11.0, None))
    )
    assert "none was scored on every draw" in word_decision(decide(None, Missing(None, (), None, None, None)))


def test_a_choice_that_is_not_the_best_names_it_and_collapses_are_told() -> None:
    lines = explain_decision(decide(LORA))
    assert lines[0] == "highest mean: pattern (0.800)"
    assert lines[1] == "lora is +15.0 points over always answering the commonest label, 10.0 at the least"
    assert lines[2].startswith("lora collapsed or fell far in some draws and not in others")


def test_a_method_that_saw_unlabelled_rows_is_marked_and_said_to_have() -> None:
    pooled = replace(decide(LORA), contenders=(replace(PATTERN, unlabelled=True), LORA, VANILLA))
    assert "learnt from rows without labels too, as the others did not: pattern" in explain_decision(pooled)
    assert not any("without labels" in line for line in explain_decision(decide(LORA)))
    stream = StringIO()
    console = Console(file=stream, width=120)
    show_decisions(console, [pooled])
    console.print(tabulate_race(pooled, ["lora"]))
    told = stream.getvalue()
    assert told.count("pattern*") == 2 and told.count("* learnt from rows without labels too") == 2
    assert "lora*" not in told


def test_the_table_has_every_method_and_why_one_cannot_be_chosen() -> None:
    stream = StringIO()
    show_decisions(Console(file=stream, width=120), [decide(LORA)], memory_limited=True)
    told = stream.getvalue()
    assert "sentiment · 16 shots" in told and "highest mean" in told and "chosen" in told
    assert "not eligible: 99 seconds to fit, over 10" in told and "4.2" in told
    assert "memory was taken as allocated, for no record tells what the process held, which is more: lora" in told
