"""The sentences and quantities that every report shows: decisions, verdicts, scores, seconds, bytes.

Owns their wording. Does not know how a number came about (`analysis`) or where it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fewtune.analysis.comparison import Comparison, word_comparison, word_further_draws
from fewtune.analysis.decision import Contender, Decision, Missing
from fewtune.analysis.leaderboard import LeaderboardRow
from fewtune.analysis.statistics import LEVEL, MOST_FURTHER_DRAWS, count_pairs
from fewtune.analysis.verdict import GroupVerdict
from fewtune.plurals import choose_verb, word_number

MOST_RIVALS = 3
"""Names after which a sentence counts the others instead of naming them."""

UNKNOWN = "–"
COMMONEST = "always answering the commonest label"
MAJORITY = "majority class"
"""What that scores, where a table or a chart has no room for more."""
MAJORITY_NOTE = (
    f"{MAJORITY.capitalize()}: {COMMONEST} of the test rows, which no method knows; the method majority answers the "
    "commonest of its labelled rows"
)
NO_INTERVAL = "No interval: one draw, or too few to rule out any score"
UNLABELLED_MARK = "*"
UNLABELLED_NOTE = f"{UNLABELLED_MARK} learnt from rows without labels too"


def word_decision(decision: Decision) -> str:
    """Word the decision: 'Use lora: within 2.1 points of the best, costs 31 s to fit, 4.20 ms a row and 1.02 GiB.'"""
    if decision.chosen is not None:
        doubt = f"; not credibly above {COMMONEST}" if decision.lead is not None and decision.lead.least <= 0 else ""
        return f"Use {decision.chosen.name}: {word_regret(decision)}, {word_cost(decision.chosen)}{doubt}."
    missing = decision.missing
    if missing is None or not missing.methods:
        return "No method can be chosen: none was scored on every draw, without a failure and within the budget."
    if missing.closest is None:
        return f"No method can be chosen on one draw: {_word_missing_draws(missing)} would give the first bounds."
    wanted = word_tolerance(decision)
    closest = f"closest is {missing.closest}, {_word_within(_bound_of(decision, missing.closest))}"
    if missing.draws is None:
        settle = f"{MOST_FURTHER_DRAWS} further draws like these would not bring one there"
        if missing.rows is not None:
            more = (
                f"about {missing.rows.times} times as many labelled rows to draw from and to test on, at the same shots"
            )
            settle += f"; with {more}, about {word_number(missing.rows.draws, 'draw')} would"
    else:
        settle = f"{_word_missing_draws(missing)} would bring one there"
    return f"No method is known to be {wanted} of the best{_word_limits(decision)}: {closest}; {settle}."


def word_question(decision: Decision) -> str:
    """Word what is decided: 'sentiment · 16 shots'."""
    return f"{decision.question.task} · {word_number(decision.question.shots, 'shot')}"


def word_unsure_memory(decision: Decision) -> list[str]:
    """Say of which methods a limit of memory was held against less than they need."""
    unsure = [each.name for each in decision.compared if not each.memory_is_held]
    told = "memory was taken as allocated, for no record tells what the process held, which is more"
    return [f"{told}: {', '.join(unsure)}"] if unsure else []


def word_unlike_memory(rows: Sequence[LeaderboardRow]) -> str:
    """Say of which methods of several memory is what was allocated, where of others it is what was held; else ''."""
    done = [row for row in rows if row.memory_bytes is not None]
    allocated = [row.variant for row in done if row.resident_memory_bytes is None]
    if not 0 < len(allocated) < len(done):
        return ""
    return f"Memory of {', '.join(allocated)} is what was allocated, of the others what was held, which is more."


def word_regret(decision: Decision) -> str:
    """Word how far the chosen method may be below the best: 'within 2.1 points of the best'."""
    compared = len(decision.compared)
    if compared == 1:
        return "the only method compared"
    if not decision.regret:
        return f"the best of {compared}{_word_limits(decision)}"
    return f"{_word_within(decision.regret)} of the best{_word_limits(decision)}"


def _word_limits(decision: Decision) -> str:
    return " within the limits" if decision.limited else ""


def word_cost(contender: Contender) -> str:
    """Word what a method costs: 'costs 31 s to fit, 4.20 ms a row and 1.02 GiB'."""
    parts = []
    if contender.fit_seconds is not None:
        parts.append(f"{word_seconds(contender.fit_seconds)} to fit")
    if contender.seconds_a_row is not None:
        parts.append(f"{word_milliseconds(contender.seconds_a_row)} ms a row")
    if contender.memory_bytes is not None:
        parts.append(word_bytes(contender.memory_bytes))
    return f"costs {_join(parts)}" if parts else "its cost was not measured"


def word_tolerance(decision: Decision) -> str:
    """Word the loss that is accepted: 'within 3 points'."""
    points = 100 * decision.question.within
    return f"within {word_number(points, 'point', 'g')}"


def explain_decision(decision: Decision) -> list[str]:
    """Say what a decision rests on, a sentence a line: the best, the chosen one's floor, collapses, missing draws."""
    lines = []
    scores = {each.name: each.score for each in decision.contenders}
    if decision.best is not None and decision.chosen is not None and decision.best != decision.chosen.name:
        lines.append(f"highest mean: {decision.best} ({word_score(scores[decision.best])})")
    if decision.lead is not None and decision.chosen is not None:
        least = f"{math.floor(1000 * decision.lead.least + 1e-9) / 10:z.1f} at the least"  # never rounded up
        lines.append(f"{decision.chosen.name} is {100 * decision.lead.point:+z.1f} points over {COMMONEST}, {least}")
    stopped = [each.name for each in decision.contenders if "not the best, " in (each.excluded or "")]
    if stopped:
        lines.append(f"not the best beyond doubt, and stopped at a look: {_join(stopped)}")
    lines += [*tell_unlabelled(decision), *warn_of_collapses(decision)]
    lacking = [each.name for each in decision.contenders if _lacks_draws(each)]
    if lacking:
        verb = choose_verb(len(lacking), "lacks", "lack")
        lines.append(f"the draws that {_join(lacking)} {verb} can be had: run the study again")
    return lines


def list_models(models: Mapping[str, str]) -> list[str]:
    """Word what models are beyond their names, by name, a line each."""
    return [f"{name}: {said}" for name, said in models.items()]


def tell_unlabelled(decision: Decision) -> list[str]:
    """Say which methods learnt from rows without labels too, where others did not."""
    names = [each.name for each in decision.compared if each.unlabelled]
    if len(names) in (0, len(decision.compared)):
        return []
    return [f"learnt from rows without labels too, as the others did not: {_join(names)}"]


def warn_of_collapses(decision: Decision) -> list[str]:
    """Say which methods collapsed at times, for bounds and verdicts on them are wrong more often than they say."""
    names = [each.name for each in decision.compared if each.collapses]
    told = (
        "collapsed or fell far in some draws and not in others: few draws seldom show how often, so bounds and "
        '"better" are wrong more often here than the 5 % they are held to'
    )
    return [f"{_join(names)} {told}"] if names else []


def mark_unlabelled(name: str, unlabelled: bool) -> str:
    """A method's name with a mark where it learnt from rows without labels too (UNLABELLED_NOTE)."""
    return f"{name}{UNLABELLED_MARK}" if unlabelled else name


def word_bound(contender: Contender) -> str:
    """Word how many points a method may be below the best: '2.1', or that it was not compared."""
    regret = contender.regret
    return UNKNOWN if regret is None or regret.bound is None else f"{_round_up(regret.bound):.1f}"


def _word_missing_draws(missing: Missing) -> str:
    """Word what is missing: 'about 6 further draws of pattern and lora (12 trials, 20 min one after another)'."""
    if missing.draws is None or missing.trials is None:
        return UNKNOWN
    time = "" if missing.seconds is None else f", {word_seconds(missing.seconds)} one after another"
    work = f"{word_number(missing.trials, 'trial')}{time}"
    draws = word_further_draws(missing.draws) if missing.closest else _word_first_draws(missing.draws)
    about = "about " if missing.closest else ""
    if missing.each is not None:
        return f"about {word_number(missing.each, 'draw')} of each of {list_briefly(missing.methods)} ({work})"
    return f"{about}{draws} of {list_briefly(missing.methods)} ({work})"


def _word_first_draws(count: int) -> str:
    return "a second draw" if count == 1 else "two draws"


def _word_within(bound: float) -> str:
    points = _round_up(bound)
    return f"within {word_number(points, 'point', '.1f')}"


def _round_up(bound: float) -> float:
    """Points to a tenth, never less than the bound."""
    return math.ceil(1000 * bound - 1e-6) / 10


def _bound_of(decision: Decision, name: str) -> float:
    regret = next(each.regret for each in decision.contenders if each.name == name)
    return 0.0 if regret is None or regret.bound is None else regret.bound


def _lacks_draws(contender: Contender) -> bool:
    return contender.excluded is not None and contender.excluded.startswith(("scored on", "failed in"))


def _join(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def word_leader(verdict: GroupVerdict) -> str:
    """Word who leads, how far that is told, and what was not scored."""
    missing = [f"{count} {word}" for count, word in ((verdict.failed, "failed"), (verdict.skipped, "skipped")) if count]
    left_out = f" Not scored: {', '.join(missing)}." if missing else ""
    if verdict.leader is None:
        return f"No trial was scored, so nothing leads.{left_out}"
    standing = _word_standing(verdict)
    return f"{verdict.leader} leads ({word_score(verdict.leader_score)} {verdict.metric}){standing}.{left_out}"


def _word_standing(verdict: GroupVerdict) -> str:
    """Word what the leader is credibly better than: the commonest label first, for without that no order counts."""
    majority = verdict.against_majority
    if majority is not None and majority.answer != "better":
        draws = word_number(majority.draws, "draw")
        return f", but over {draws} not credibly above {COMMONEST}"
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
    """Word all that stands below a verdict's first line, the decision: who leads, what to mind, the comparisons."""
    return [word_leader(verdict), *tell_unlabelled(decision), *warn_of_collapses(decision), *list_comparisons(verdict)]


def list_comparisons(verdict: GroupVerdict) -> list[str]:
    """Word the leader's comparisons, the majority's first, each with its p where draws are enough for one to decide."""
    lines = []
    # The least that the correction can leave of an exact test over so many draws.
    pairs = count_pairs(len(verdict.comparisons) + 1)
    if verdict.against_majority is not None:
        lines.append(word_comparison(COMMONEST, verdict.against_majority))
    for other, comparison in verdict.comparisons.items():
        decides = comparison.p is not None and pairs * 2.0 ** (1 - comparison.draws) <= LEVEL
        lines.append(word_comparison(other, comparison) + (f", {_word_p(comparison.p)}" if decides else ""))
    return lines


def _word_p(p: float | None) -> str:
    return f"p = {p:.3f}" if p is None or p >= 0.001 else "p < 0.001"


def word_missing(missing: Mapping[str, int]) -> str:
    """Say that a study is unfinished, and which of its trials have not run."""
    each = ", ".join(f"{variant} ({count})" for variant, count in missing.items())
    count = sum(missing.values())
    have = choose_verb(count, "has", "have")
    return f"Unfinished: {word_number(count, 'trial')} {have} not run yet: {each}. `fewtune run` goes on."


def word_score(value: float | None) -> str:
    """Word a score to three places."""
    return UNKNOWN if value is None else f"{value:z.3f}"


def word_points(value: float | None) -> str:
    """Word a difference of scores in points (hundredths), signed."""
    return UNKNOWN if value is None else f"{100 * value:+z.1f}"


def word_share(value: float | None) -> str:
    """Word a share as per cent."""
    return UNKNOWN if value is None else f"{100 * value:.0f}%"


def word_seconds(seconds: float | None) -> str:
    """Word seconds with the unit that suits their size."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.01:
        return "<0.01 s"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"


def word_about(seconds: float) -> str:
    """Word seconds that are estimated, as a person says them: 'about 5 min'."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def word_milliseconds(seconds: float | None) -> str:
    """Word seconds as milliseconds, without the unit."""
    if seconds is None:
        return UNKNOWN
    milliseconds = 1000 * seconds
    if milliseconds < 0.01:
        return "<0.01"
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def word_bytes(size: int | None) -> str:
    """Word bytes as MiB or GiB."""
    if size is None:
        return UNKNOWN
    mebibytes = size / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.2f} GiB"


def word_count(count: int | None) -> str:
    """Word a number of parameters with k, M or B."""
    if count is None:
        return UNKNOWN
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if float(f"{count / size:.3g}") >= 1 and count >= 1000:
            return f"{count / size:.3g}{letter}"
    return str(count)


def word_standing(against: Comparison | None) -> str:
    """Word how the second of a comparison stands to the first: 'worse, -5.9 [-11.2, -0.6]', in points."""
    if against is None or against.point is None or against.low is None or against.high is None:
        return UNKNOWN
    answer = {"better": "worse", "worse": "better"}.get(against.answer, against.answer)
    return f"{answer}, {-100 * against.point:+z.1f} [{-100 * against.high:z.1f}, {-100 * against.low:z.1f}]"
