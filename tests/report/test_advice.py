"""A decision in words, and in a terminal."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from fewtune.analysis.decision import Contender, Decision, Further, Lead, MoreRows, Question
from fewtune.inference.expected_loss import ExpectedLoss
from fewtune.inference.regret import RegretBound
from fewtune.report.advice import show_decisions
from fewtune.report.race import tabulate_race
from fewtune.report.wording import explain_decision, format_chance, format_decision, format_lost

PATTERN = Contender(
    "pattern", 0.8, 9.0, 9.0, 1, None, 5, 0, 8.0, 0.001, 2**30, True, False,
    RegretBound(0.0201, 5), ExpectedLoss(0.0021, 0.004),
)  # fmt: skip
LORA = Contender(
    "lora", 0.79, 2.0, 2.0, 1, None, 5, 0, 1.5, 0.0042, 2**29, False, True,
    RegretBound(0.0412, 5), ExpectedLoss(0.011, 0.085),
)  # fmt: skip
VANILLA = Contender("vanilla", None, 99.0, 99.0, 1, "99 seconds to fit, over 10")


def decide(choice: Contender | None, further: Further | None = None, lead: float = 0.1) -> Decision:
    question = Question("sentiment", 16, "accuracy")
    held = (PATTERN, LORA, VANILLA)
    told = Lead(lead + 0.05, lead) if choice else None
    return Decision(question, choice, choice is not None and further is None, "pattern", 5, held, further, told)


def test_a_choice_says_what_it_is_expected_to_lose_what_it_costs_and_its_bound() -> None:
    assert format_decision(decide(PATTERN)) == (
        "Use pattern: expected to lose 0.2 points to the best of these 2 methods (over 99 % to lose 3 at most), fitted "
        "on 16 labelled rows like these; 8.00 s to fit, 1.00 ms a row and 1.00 GiB. At most 2.1 points, with 95 % "
        "confidence."
    ), "a bound is never understated"
    assert "; not credibly above always answering the majority class." in format_decision(decide(LORA, lead=-0.01))


def test_a_best_bet_says_what_further_draws_are_expected_to_make_of_it() -> None:
    further = Further({"pattern": 2, "lora": 2}, 4, 180.0, 0.004)
    assert format_decision(decide(LORA, further)) == (
        "Best bet: lora, expected to lose 1.1 points to the best of these 2 methods (91 % to lose 3 at most); 1.50 s "
        "to fit, 4.20 ms a row and 512 MiB. At most 4.2 points, with 95 % confidence. 2 further draws each of pattern "
        "and lora (4 trials, 180 s) are expected to bring the expected loss to 0.5 or less and its risk to 5 %."
    )
    unlike = replace(further, draws={"pattern": 3, "lora": 1})
    assert "Further draws, 3 of pattern and 1 of lora (4 trials, 180 s), are expected to" in format_decision(
        decide(LORA, unlike)
    )
    assert format_decision(decide(LORA, Further({}))).endswith(
        "100 further draws of these rows would not bring the expected loss to 0.5 or less and its risk to 5 %."
    )
    assert format_decision(decide(LORA, Further({}, rows=MoreRows(5, draws=12)))).endswith(
        "would not bring the expected loss to 0.5 or less and its risk to 5 %; 5 times as many labelled "
        "rows to draw from and to test on, at the same shots and with 12 draws, are expected to."
    )


def test_a_bound_that_was_asked_for_is_told_as_what_is_missing() -> None:
    decision = decide(LORA, Further({"lora": 6}, 6, 60.0))
    bound = replace(decision, question=replace(decision.question, guarantee="bound"))
    assert format_decision(bound).endswith(
        "At most 4.2 points, with 95 % confidence; asked: 3. 6 further draws of lora (6 trials, 60 s) are expected to "
        "bring the bound within 3."
    )


def test_one_draw_one_method_and_none_are_told_in_a_sentence_each() -> None:
    unknown = replace(PATTERN, loss=None, regret=RegretBound(None, 1))
    one_draw = replace(decide(unknown, Further({"pattern": 1, "lora": 1}, 2, 11.0)))
    assert format_decision(one_draw) == (
        "Best bet: pattern, the highest score on the only draw that all methods have. One draw does not show what it "
        "may lose. 1 further draw each of pattern and lora (2 trials, 11 s) would show it."
    )
    alone = replace(decide(PATTERN), contenders=(PATTERN,))
    assert format_decision(alone) == (
        "Use pattern: the only method that could be compared, so there is no other to lose to; 8.00 s to fit, 1.00 ms "
        "a row and 1.00 GiB."
    )
    assert "none was scored without a failure and within the budget" in format_decision(decide(None))


def test_a_tolerance_beneath_one_test_row_says_which_one_is_possible() -> None:
    decision = decide(LORA, Further({}))
    small = replace(decision, question=replace(decision.question, within=0.0), row_weight=0.002)
    assert format_decision(small).endswith(
        "One test row weighs 0.2 points, more than the tolerance of 0: ask for `--within 0.002` or more, or test on "
        "more rows."
    )


def test_where_the_choice_saw_unlabelled_rows_the_best_of_the_others_is_named() -> None:
    pooled = replace(decide(replace(PATTERN, unlabelled=True)), without_unlabelled=LORA)
    assert format_decision(pooled).endswith(
        "pattern learnt from unlabelled rows too; the best bet of those that did not is lora, expected to lose 1.1 "
        "points."
    )


@pytest.mark.parametrize(
    ("loss", "told"),
    [(0.0, "less than 0.1 points"), (0.0004, "less than 0.1 points"), (0.01, "1.0 point"), (0.0149, "1.5 points")],
)
def test_losses_are_told_to_a_tenth(loss: float, told: str) -> None:
    assert format_lost(loss) == told


@pytest.mark.parametrize(("chance", "told"), [(0.9999, "over 99 %"), (0.989, "98 %"), (0.914, "91 %"), (0.0, "0 %")])
def test_chances_are_never_rounded_up(chance: float, told: str) -> None:
    assert format_chance(chance) == told


def test_a_choice_that_is_not_the_best_names_it_and_collapses_are_told() -> None:
    lines = explain_decision(decide(LORA))
    assert lines[0] == "highest mean: pattern (0.800)"
    assert lines[1] == "lora is +15.0 points over always answering the majority class, 10.0 at the least"
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
    assert "not eligible: 99 seconds to fit, over 10" in told and "4.2" in told and "1.1" in told
    assert "memory was taken as allocated, for no record tells what the process held, which is more: lora" in told
