"""The attack on the command line: its judge tells what it should, every kind has cases, and the quick version holds."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.attack.campaign import attack, count, write_table
from benchmarks.attack.case import Case, Kind, run_case
from benchmarks.attack.disk import ALWAYS
from benchmarks.attack.kinds import KINDS, QUICK
from benchmarks.attack.material import require_equal
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, Outcome, Verdict, judge_crash, judge_refusal

REFUSAL = "fewtune: rows.csv: row 3 has no label."


def outcome(code: int | None, output: str) -> Outcome:
    return Outcome(("check", "study.yaml"), code, output, seconds=1.0)


def judged(judge: Callable[[], None]) -> str:
    try:
        judge()
    except Caught as caught:
        return caught.verdict.word
    return "right"


@pytest.mark.parametrize(
    ("code", "output", "word"),
    [
        (2, REFUSAL, "right"),
        (0, "nothing wrong", "silent_wrong"),
        (1, REFUSAL, "unclear"),
        (2, "fewtune: row 3 has no label.", "unclear"),
        (2, REFUSAL + "x" * 5000, "unclear"),
        (2, "a report\n" * 500 + REFUSAL, "right"),
        (2, f"Traceback (most recent call last):\n{REFUSAL}", "traceback"),
        (1, "rich.errors.MarkupError: closing tag '[/b]' at position 9 doesn't match any open tag", "traceback"),
        (1, "", "traceback"),
        (-6, "rows.csv", "traceback"),
        (134, "rows.csv", "traceback"),
        (None, "rows.csv", "hang"),
    ],
)
def test_a_refusal_is_code_2_and_one_short_message_that_names_the_file(
    code: int | None, output: str, word: str
) -> None:
    assert judged(lambda: judge_refusal(outcome(code, output), ["rows.csv"])) == word


@pytest.mark.parametrize(
    ("code", "output", "word"),
    [
        (0, "leaderboard", "right"),
        (1, "1 trial failed: out_of_memory", "right"),
        (0, "thread 'x' panicked at src/lib.rs", "traceback"),
        (None, "", "hang"),
    ],
)
def test_whatever_is_given_a_crash_and_a_hang_are_seen(code: int | None, output: str, word: str) -> None:
    assert judged(lambda: judge_crash(outcome(code, output))) == word


def test_a_name_wrapped_over_lines_is_found() -> None:
    assert (
        judged(lambda: judge_refusal(outcome(2, "fewtune: /a/long/pa\nth/rows.\n csv: no."), ["path/rows.csv"]))
        == "right"
    )


@pytest.mark.parametrize("key", ["status", "metrics", "answers"])
def test_equal_runs_whose_records_differ_are_a_silent_wrong(key: str) -> None:
    trial = {"status": "done", "metrics": {"in_domain": {"accuracy": 0.75}}, "answers": "a1"}
    assert judged(lambda: require_equal({"t": trial}, {"t": dict(trial)})) == "right"
    assert judged(lambda: require_equal({"t": trial}, {"t": trial | {key: "other"}})) == "silent_wrong"
    assert judged(lambda: require_equal({"t": trial}, {})) == "silent_wrong"


def catch(stage: Stage, word: str) -> None:
    raise Caught(word, f"in {stage.folder}")  # type: ignore[arg-type]


def fail(stage: Stage) -> None:
    raise KeyError("the attack's own mistake")


def test_what_a_case_catches_is_counted_under_its_word(tmp_path: Path) -> None:
    (tmp_path / "material").mkdir()
    words = ("traceback", "silent_wrong", "silent_wrong", "skipped")
    cases = [Case(f"{i}", catch, {"word": word}) for i, word in enumerate(words)]
    verdicts = [(case.name, run_case(case, tmp_path / "material"), 1.0) for case in cases]
    assert verdicts[0][1] == Verdict("traceback", "in CASE")
    found = count(4, [*verdicts, ("sound", Verdict("right"), 1.0)])
    assert (found["tried"], found["traceback"], found["hang"], found["silent_wrong"], found["skipped"]) == (
        4,
        1,
        0,
        2,
        1,
    )
    assert [each["word"] for each in found["found"]] == list(words)
    assert write_table({"a": found, "b": found}).splitlines()[-1] == "| all |  | 8 | 2 | 0 | 4 | 0 | 2 | 0 |"


def test_an_attacks_own_mistake_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "material").mkdir()
    with pytest.raises(RuntimeError, match="the attack's own mistake"):
        run_case(Case("broken", fail), tmp_path / "material")
    assert [path.name for path in tmp_path.iterdir()] == ["material"]


def test_a_file_that_a_kill_left_behind_is_none_of_a_folders_own() -> None:
    own = ("study.yaml", "trials/00ff.json", "predictions/00ff.parquet", ".lock")
    assert all(ALWAYS.fullmatch(name) for name in own)
    assert not ALWAYS.fullmatch("predictions/.00ff.parquet.na13_9vi.part")


@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_has_cases_that_travel_between_processes(name: str) -> None:
    kind = KINDS[name]
    cases = kind.make_cases(kind.size)
    assert cases and kind.make_cases(kind.size) == cases, "the same cases whenever they are asked for"
    assert pickle.loads(pickle.dumps(cases)) == cases
    assert 1 <= kind.item <= 17


def test_every_finding_has_a_kind() -> None:
    assert {kind.item for kind in KINDS.values()} == set(range(1, 18))


def write_nothing(stage: Stage) -> None:
    study = stage.folder / "study.yaml"
    study.write_text("name: x\n")
    judge_refusal(stage.command("check", study), ["shots"])
    stage.folder.joinpath("slow.sh").write_text("")
    late = stage.command("list", "methods", terms=Terms(limit=0.0))
    if late.code is not None:
        raise Caught("unclear", "a command past its limit is not killed")
    raise Caught("hang", "made up")


def test_the_quick_attack_holds() -> None:
    """Runs a few cases of some kinds, and a made-up one that must be caught: the way through works."""
    kinds = {name: KINDS[name] for name in QUICK}
    made_up = Kind("made up", 10, lambda size: [Case("late", write_nothing)])
    lines: list[str] = []
    results = attack(kinds | {"made up": made_up}, smoke=True, jobs=2, tell=lambda line, **_: lines.append(line))
    assert results["made up"]["hang"] == 1
    for name in QUICK:
        assert results[name]["tried"] == 2, name
        assert {word: results[name][word] for word in ("traceback", "hang", "silent_wrong")} == {
            "traceback": 0, "hang": 0, "silent_wrong": 0
        }, results[name]["found"]  # fmt: skip
    assert all(line.startswith("hang") for line in lines), lines
