"""A recommendation in words, and in a terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from fewtune.analysis.recommend import Candidate, Recommendation
from fewtune.report.advice import show_advice, word_answer


def advise(
    *, answer: str = "cannot tell", chosen: str = "lora", above: bool = False, left_out: float | None = None
) -> Recommendation:
    candidates = [Candidate("pattern", 0.8, 9.0, None), Candidate("lora", 0.79, 1.0, None)]
    candidates.append(Candidate("vanilla", left_out, 99.0, "99 seconds to fit, over 10"))
    shared = {"rival": None, "at_risk": None, "reasons": (), "further": ()}
    return Recommendation(
        "sentiment",
        16,
        "accuracy",
        answer,
        chosen,
        above,
        "pattern",
        tuple(candidates),
        **shared,  # type: ignore[arg-type]
    )


def show(advice: Recommendation) -> str:
    stream = StringIO()
    show_advice(Console(file=stream, width=120), [advice])
    return stream.getvalue()


def test_the_best_is_the_best_of_those_eligible_where_one_with_a_mean_is_not() -> None:
    assert word_answer(advise()).endswith("pattern scores highest.")
    assert word_answer(advise(left_out=0.9)).endswith("pattern scores highest of those eligible.")
    assert word_answer(advise(chosen="pattern", left_out=0.9)).startswith(
        "Cannot tell: pattern scores highest of those eligible, but"
    )
    assert "highest mean of those eligible" in show(advise(left_out=0.9))


def test_a_method_is_marked_chosen_with_an_answer_alone() -> None:
    assert "chosen" in show(advise(answer="use"))
    told = show(advise())
    assert "chosen" not in told
    assert "cheapest not ruled out; " in told


def test_a_choice_above_the_commonest_label_is_not_called_the_cheapest_of_all() -> None:
    assert "lora is the cheapest not ruled out, pattern" in word_answer(advise())
    assert "lora is the cheapest not ruled out that is above the commonest label, pattern" in word_answer(
        advise(above=True)
    )
