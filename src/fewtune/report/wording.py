"""The sentences and quantities that every report shows: decisions, verdicts, scores, seconds, bytes.

Owns their wording. Does not know how a number came about (`analysis`) or where it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fewtune.analysis.decision import Contender, Decision, Further
from fewtune.analysis.leaderboard import LeaderboardRow
from fewtune.analysis.verdict import GroupVerdict
from fewtune.inference.better import LEVEL, MOST_FURTHER_DRAWS, REGION, Comparison, Reason, count_pairs
from fewtune.plurals import choose_verb, pluralise
from fewtune.system.sizes import format_bytes

MOST_RIVALS = 3
"""Names after which a sentence counts the others instead of naming them."""

UNKNOWN = "–"
ALWAYS_MAJORITY = "always answering the majority class"
MAJORITY = "majority class"
"""What that scores, where a table or a chart has no room for more."""
MAJORITY_NOTE = (
    f"{MAJORITY.capitalize()}: always answering the most frequent label of the test rows, which no method knows; the "
    "method majority answers the commonest of its labelled rows"
)
NO_INTERVAL = "No interval: one draw, or too few to rule out any score"
UNLABELLED_MARK = "*"
UNLABELLED_NOTE = f"{UNLABELLED_MARK} learnt from rows without labels too"


def format_decision(decision: Decision) -> str:
    """Format the decision, its bound and what would firm it up, in one to five sentences."""
    return " ".join(list_sentences(decision))


def list_sentences(decision: Decision) -> list[str]:
    """The sentences of a decision, the answer first.

    'Use lora: expected to lose 0.2 points to the best of these 7 methods (over 99 % to lose 3 at most), fitted on 16
    rows like these; 15 s to fit, 43 ms a row and 1.60 GiB.', 'At most 3.6 points, with 95 % confidence.'
    """
    if decision.choice is None:
        return ["No method can be chosen: none was scored without a failure and within the budget."]
    sentences = [
        format_answer(decision),
        format_guarantee(decision),
        format_further(decision),
        _format_smallest(decision),
    ]
    other = decision.without_unlabelled
    if other is not None:
        loss = "" if other.loss is None else f", expected to lose {format_lost(other.loss.expected)}"
        learnt = f"{decision.choice.name} learnt from unlabelled rows too"
        sentences.append(f"{learnt}; the best bet of those that did not is {other.name}{loss}.")
    return [sentence for sentence in sentences if sentence]


def format_choice(decision: Decision) -> str:
    """Format the choice in one short sentence, for a picture that has the rest beside it."""
    choice = decision.choice
    if choice is None or choice.loss is None or len(decision.compared) < 2:
        return list_sentences(decision)[0]
    head = "Use" if decision.settled else "Best bet:"
    loss = f"expected to lose {format_lost(choice.loss.expected)} to the best of {len(decision.compared)} methods"
    chance = format_chance(1 - choice.loss.risk)
    colon = ":" if decision.settled else ","
    return f"{head} {choice.name}{colon} {loss} ({chance} to lose {_format_tolerance(decision)} at most)."


def format_beside(decision: Decision) -> str:
    """Format what stands beside the choice: its cost, its bound, and what would firm it up."""
    choice = decision.choice
    if choice is None or choice.loss is None or len(decision.compared) < 2:
        return " ".join(list_sentences(decision)[1:])
    fitted = f"Fitted on {pluralise(decision.question.shots, 'labelled row')} like these: {format_cost(choice)}."
    return " ".join([fitted, *list_sentences(decision)[1:]])


def format_answer(decision: Decision) -> str:
    """Format which method to use, what it is expected to lose and what it costs; '' where none can be chosen."""
    choice, question = decision.choice, decision.question
    if choice is None:
        return ""
    doubt = f"; not credibly above {ALWAYS_MAJORITY}" if decision.lead is not None and decision.lead.least <= 0 else ""
    rows = pluralise(question.shots, "labelled row")
    if len(decision.compared) == 1:
        only = "the only method that could be compared, so there is no other to lose to"
        return f"Use {choice.name}: {only}; {format_cost(choice)}{doubt}."
    if choice.loss is None:
        return (
            f"Best bet: {choice.name}, the highest score on the only draw that all methods have. "
            "One draw does not show what it may lose."
        )
    of = f"to the best of these {len(decision.compared)} methods{_format_limits(decision)}"
    loss = f"expected to lose {format_lost(choice.loss.expected)}"
    chance = f"({format_chance(1 - choice.loss.risk)} to lose {_format_tolerance(decision)} at most)"
    if decision.settled:
        return f"Use {choice.name}: {loss} {of} {chance}, fitted on {rows} like these; {format_cost(choice)}{doubt}."
    return f"Best bet: {choice.name}, {loss} {of} {chance}; {format_cost(choice)}{doubt}."


def _format_tolerance(decision: Decision) -> str:
    return f"{100 * decision.question.within:g}"


def format_guarantee(decision: Decision) -> str:
    """Format the regret bound of the choice: 'At most 3.6 points, with 95 % confidence.'; '' where there is none."""
    regret = decision.regret
    if regret is None or len(decision.compared) < 2:
        return ""
    if regret <= 0:
        return "With 95 % confidence no other is above it."
    asked = ""
    if decision.question.guarantee == "bound" and not decision.settled:
        asked = f"; asked: {100 * decision.question.within:g}"
    return f"At most {format_lost(regret, up=True)}, with 95 % confidence{asked}."


def format_further(decision: Decision) -> str:
    """Format what would settle a decision; '' where it is settled."""
    further = decision.further
    if further is None or decision.choice is None:
        return ""
    bound = decision.question.guarantee == "bound"
    wanted = f"bring the bound within {100 * decision.question.within:g}"
    if not bound:
        wanted = f"bring the expected loss to {100 * decision.question.most_lost:.2g} or less and its risk to 5 %"
    if not further.draws:
        alone = f"{MOST_FURTHER_DRAWS} further draws of these rows would not {wanted}"
        if further.rows is None:
            return f"{alone}."
        rows = f"{further.rows.times} times as many labelled rows to draw from and to test on"
        return f"{alone}; {rows}, at the same shots and with {further.rows.draws} draws, are expected to."
    if decision.choice.loss is None:
        return f"{_format_draws_to_come(further)} would show it."
    return f"{_format_draws_to_come(further)} are expected to {wanted}."


def format_lost(loss: float, *, up: bool = False) -> str:
    """Format points that are lost: '0.2 points', '1 point', 'less than 0.1 points'; `up`: never less than they are."""
    points = math.ceil(1000 * loss - 1e-6) / 10 if up else round(100 * loss, 1)
    if points == 0 and not up:
        return "less than 0.1 points"
    return pluralise(points, "point", ".1f")


def format_chance(chance: float) -> str:
    """Format a chance in per cent, never rounded up: '91 %', 'over 99 %'."""
    percent = math.floor(100 * chance + 1e-9)
    return "over 99 %" if percent >= 99 else f"{percent} %"


def _format_smallest(decision: Decision) -> str:
    """Say that a tolerance is less than test rows can show; '' where it is not."""
    if decision.settled or not decision.row_weight > decision.question.within:
        return ""
    smallest = math.ceil(1e4 * decision.row_weight) / 1e4
    return (
        f"One test row weighs {100 * decision.row_weight:.2g} points, more than the tolerance of "
        f"{100 * decision.question.within:g}: ask for `--within {smallest:g}` or more, or test on more rows."
    )


def _format_draws_to_come(further: Further) -> str:
    """Format further draws: '2 further draws of pattern and lora (4 trials, 3 min)'."""
    time = "" if further.seconds is None else f", {format_seconds(further.seconds)}"
    work = f"({pluralise(further.trials, 'trial')}{time})"
    counts = set(further.draws.values())
    if len(counts) == 1:
        each = " each" if len(further.draws) > 1 else ""
        return f"{pluralise(counts.pop(), 'further draw')}{each} of {list_briefly(list(further.draws))} {work}"
    parts = [f"{count} of {name}" for name, count in further.draws.items()]
    return f"Further draws, {_join(parts)} {work},"


def format_question(decision: Decision) -> str:
    """Format what is decided: 'sentiment · 16 shots'."""
    return f"{decision.question.task} · {pluralise(decision.question.shots, 'shot')}"


def format_unsure_memory(decision: Decision) -> list[str]:
    """Say of which methods a limit of memory was held against less than they need."""
    unsure = [each.name for each in decision.compared if not each.memory_is_held]
    told = "memory was taken as allocated, for no record tells what the process held, which is more"
    return [f"{told}: {', '.join(unsure)}"] if unsure else []


def format_unlike_memory(rows: Sequence[LeaderboardRow]) -> str:
    """Say of which methods of several memory is what was allocated, where of others it is what was held; else ''."""
    done = [row for row in rows if row.memory_bytes is not None]
    allocated = [row.variant for row in done if row.resident_memory_bytes is None]
    if not 0 < len(allocated) < len(done):
        return ""
    return f"Memory of {', '.join(allocated)} is what was allocated, of the others what was held, which is more."


def _format_limits(decision: Decision) -> str:
    return " within the limits" if decision.limited else ""


def format_cost(contender: Contender) -> str:
    """Format what a method costs: '31 s to fit, 4.20 ms a row and 1.02 GiB'."""
    parts = []
    if contender.fit_seconds is not None:
        parts.append(f"{format_seconds(contender.fit_seconds)} to fit")
    if contender.seconds_a_row is not None:
        parts.append(f"{format_milliseconds(contender.seconds_a_row)} ms a row")
    if contender.memory_bytes is not None:
        parts.append(format_memory(contender.memory_bytes))
    return _join(parts) if parts else "its cost was not measured"


def explain_decision(decision: Decision) -> list[str]:
    """Say what a decision rests on, a sentence a line: best, the choice's least score, collapses, missing draws."""
    lines = []
    scores = {each.name: each.score for each in decision.contenders}
    if decision.best is not None and decision.choice is not None and decision.best != decision.choice.name:
        lines.append(f"highest mean: {decision.best} ({format_score(scores[decision.best])})")
    if decision.lead is not None and decision.choice is not None:
        least = f"{math.floor(1000 * decision.lead.least + 1e-9) / 10:z.1f} at the least"  # never rounded up
        lines.append(
            f"{decision.choice.name} is {100 * decision.lead.point:+z.1f} points over {ALWAYS_MAJORITY}, {least}"
        )
    stopped = [each.name for each in decision.contenders if "not the best, " in (each.excluded or "")]
    if stopped:
        lines.append(f"below another method beyond doubt, and stopped: {_join(stopped)}")
    lines += [*tell_unlabelled(decision), *warn_of_collapses(decision)]
    lacking = [each.name for each in decision.contenders if _lacks_draws(each)]
    if lacking:
        verb = choose_verb(len(lacking), "lacks", "lack")
        lines.append(f"the draws that {_join(lacking)} {verb} can be had: run the study again")
    return lines


def list_models(models: Mapping[str, str]) -> list[str]:
    """Format what models are beyond their names, by name, a line each."""
    return [f"{name}: {said}" for name, said in models.items()]


def tell_unlabelled(decision: Decision) -> list[str]:
    """Say which methods learnt from rows without labels too, where others did not."""
    names = [each.name for each in decision.compared if each.unlabelled]
    if len(names) in (0, len(decision.compared)):
        return []
    return [f"learnt from rows without labels too, as the others did not: {_join(names)}"]


def warn_of_collapses(decision: Decision) -> list[str]:
    """Say which fits collapsed and were made again, and which methods collapsed at times for all that."""
    again = [f"{each.name} ({each.refitted})" for each in decision.compared if each.refitted]
    names = [each.name for each in decision.compared if each.collapses]
    told = (
        "collapsed or fell far in some draws and not in others: few draws seldom show how often, so it may lose more "
        "than is said here"
    )
    lines = (
        [f"fits that gave one answer to everything were made again with another seed: {_join(again)}"] if again else []
    )
    return [*lines, *([f"{_join(names)} {told}"] if names else [])]


def mark_unlabelled(name: str, unlabelled: bool) -> str:
    """A method's name with a mark where it learnt from rows without labels too (UNLABELLED_NOTE)."""
    return f"{name}{UNLABELLED_MARK}" if unlabelled else name


def format_bound(contender: Contender) -> str:
    """Format how many points a method is below the best at the most: '2.1', or that it was not compared."""
    regret = contender.regret
    return UNKNOWN if regret is None or regret.bound is None else f"{math.ceil(1000 * regret.bound - 1e-6) / 10:.1f}"


def format_expected(contender: Contender) -> str:
    """Format how many points a method is expected to lose: '0.2', or that it was not compared."""
    loss = contender.loss
    if loss is None:
        return UNKNOWN
    return "<0.1" if loss.expected < 0.0005 else f"{100 * loss.expected:.1f}"


def format_region(region: float) -> str:
    """Format the largest difference that does not matter: '1 point'."""
    return pluralise(100 * region, "point", "g")


def format_reason(reason: Reason, region: float) -> str:
    """Format why a comparison has its answer."""
    return {
        "no draw in common": "no draw in common",
        "one draw": "one draw: the interval covers the choice of test rows only",
        "within the region": f"two one-sided tests put it within {format_region(region)}",
        "interval above 0": "the whole interval is above 0",
        "interval below 0": "the whole interval is below 0",
        "interval holds 0": f"the interval holds 0 and reaches beyond {format_region(region)}",
        "difference within the region": f"the difference is within {format_region(region)}, the interval is not",
        "corrected for several comparisons": "0 is out, but not at the level that so many comparisons ask for",
    }[reason]


def format_comparison(other: str, comparison: Comparison) -> str:
    """Format one comparison of the leader: 'better than tfidf by 12.1 points [8.0, 16.3], ahead in 5 of 5 draws'."""
    if comparison.point is None or comparison.low is None or comparison.high is None:
        return f"cannot tell from {other}: {format_reason(comparison.reason, comparison.region)}"
    span = f"[{100 * comparison.low:z.1f}, {100 * comparison.high:z.1f}]"
    size = f"{abs(100 * comparison.point):.1f} points"
    if comparison.answer in ("better", "worse"):
        return f"{comparison.answer} than {other} by {size} {span}{_format_wins(comparison)}"
    signed = f"{100 * comparison.point:+z.1f} points {span}"
    if comparison.answer == "tie":
        within = f", within {format_region(comparison.region)}" if comparison.region != REGION else ""
        return f"tie with {other}{within} ({signed})"
    why = format_reason(comparison.reason, comparison.region)
    why = f"; {why}" if max(comparison.low, -comparison.high) > 0 else ""
    return f"cannot tell from {other}{_format_wins(comparison)} ({signed}{why}{_format_further_draws(comparison)})"


def _format_wins(comparison: Comparison) -> str:
    """Format how often the first is ahead: ', ahead in 1.5 of 3 draws'; of one draw, only that there is one."""
    if comparison.draws == 1 or comparison.wins is None:
        return " with 1 draw"
    return f", ahead in {comparison.wins * comparison.draws:g} of {comparison.draws} draws"


def _format_further_draws(comparison: Comparison) -> str:
    """Format what would settle a "cannot tell": '; about 4 further draws may settle it', or nothing."""
    if comparison.draws == 1:
        return "; a second draw is the least that could tell"
    if comparison.further_draws is None:
        return f"; {MOST_FURTHER_DRAWS} further draws like these would not settle it"
    return f"; about {pluralise(comparison.further_draws, 'further draw')} like these would settle it"


def _lacks_draws(contender: Contender) -> bool:
    return contender.excluded is not None and contender.excluded.startswith(("scored on", "failed in"))


def _join(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def format_leader(verdict: GroupVerdict) -> str:
    """Format who leads, how far that is told, and what was not scored."""
    missing = [f"{count} {word}" for count, word in ((verdict.failed, "failed"), (verdict.skipped, "skipped")) if count]
    left_out = f" Not scored: {', '.join(missing)}." if missing else ""
    if verdict.leader is None:
        return f"No trial was scored, so nothing leads.{left_out}"
    standing = _format_standing(verdict)
    return f"{verdict.leader} leads ({format_score(verdict.leader_score)} {verdict.metric}){standing}.{left_out}"


def _format_standing(verdict: GroupVerdict) -> str:
    """Format what the leader is credibly better than: the majority class first, for without that no order counts."""
    majority = verdict.against_majority
    if majority is not None and majority.answer != "better":
        draws = pluralise(majority.draws, "draw")
        return f", but over {draws} not credibly above {ALWAYS_MAJORITY}"
    rivals = [other for other, comparison in verdict.comparisons.items() if comparison.answer != "better"]
    if rivals:
        return f", but not credibly better than {list_briefly(rivals)}"
    return ", credibly better than every other" if verdict.comparisons else ""


def list_briefly(names: Sequence[str]) -> str:
    """List the first names and count the others: 'a', 'a and b', 'a, b and 4 more'."""
    shown = list(names)
    if len(names) > MOST_RIVALS:
        shown[MOST_RIVALS - 1 :] = [f"{len(names) - MOST_RIVALS + 1} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def list_verdict(decision: Decision, verdict: GroupVerdict) -> list[str]:
    """Format all that stands below a verdict's first line, the decision: who leads, what to mind, the comparisons."""
    return [
        format_leader(verdict),
        *tell_unlabelled(decision),
        *warn_of_collapses(decision),
        *list_comparisons(verdict),
    ]


def list_comparisons(verdict: GroupVerdict) -> list[str]:
    """Format the leader's comparisons, the majority's first, each with its p where draws are enough to decide."""
    lines = []
    # The least that the correction can leave of an exact test over so many draws.
    pairs = count_pairs(len(verdict.comparisons) + 1)
    if verdict.against_majority is not None:
        lines.append(format_comparison(ALWAYS_MAJORITY, verdict.against_majority))
    for other, comparison in verdict.comparisons.items():
        decides = comparison.exact_p is not None and pairs * 2.0 ** (1 - comparison.draws) <= LEVEL
        lines.append(format_comparison(other, comparison) + (f", {_format_p(comparison.exact_p)}" if decides else ""))
    return lines


def _format_p(p: float | None) -> str:
    return f"p = {p:.3f}" if p is None or p >= 0.001 else "p < 0.001"


def format_missing(missing: Mapping[str, int]) -> str:
    """Say that a study is unfinished, and which of its trials have not run."""
    each = ", ".join(f"{variant} ({count})" for variant, count in missing.items())
    count = sum(missing.values())
    have = choose_verb(count, "has", "have")
    return f"Unfinished: {pluralise(count, 'trial')} {have} not run yet: {each}. `fewtune run` goes on."


def format_score(value: float | None) -> str:
    """Format a score to three places."""
    return UNKNOWN if value is None else f"{value:z.3f}"


def format_points(value: float | None) -> str:
    """Format a difference of scores in points (hundredths), signed."""
    return UNKNOWN if value is None else f"{100 * value:+z.1f}"


def format_share(value: float | None) -> str:
    """Format a share as per cent."""
    return UNKNOWN if value is None else f"{100 * value:.0f}%"


def format_percent(share: float) -> str:
    """Format a level or a chance within a sentence: '95 %'."""
    return f"{100 * share:g} %"


def format_seconds(seconds: float | None) -> str:
    """Format seconds with the unit that suits their size."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.01:
        return "<0.01 s"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"


def format_about(seconds: float) -> str:
    """Format seconds that are estimated, as a person says them: 'about 5 min'."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def format_milliseconds(seconds: float | None) -> str:
    """Format seconds as milliseconds, without the unit."""
    if seconds is None:
        return UNKNOWN
    milliseconds = 1000 * seconds
    if milliseconds < 0.01:
        return "<0.01"
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def format_memory(size: int | None) -> str:
    """Format bytes as B, KiB, MiB or GiB."""
    return UNKNOWN if size is None else format_bytes(size)


def format_count(count: int | None) -> str:
    """Format a number of parameters with k, M or B."""
    if count is None:
        return UNKNOWN
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if float(f"{count / size:.3g}") >= 1 and count >= 1000:
            return f"{count / size:.3g}{letter}"
    return str(count)


def format_standing(against: Comparison | None) -> str:
    """Format how the second of a comparison stands to the first: 'worse, -5.9 [-11.2, -0.6]', in points."""
    if against is None or against.point is None or against.low is None or against.high is None:
        return UNKNOWN
    answer = {"better": "worse", "worse": "better"}.get(against.answer, against.answer)
    return f"{answer}, {-100 * against.point:+z.1f} [{-100 * against.high:z.1f}, {-100 * against.low:z.1f}]"
