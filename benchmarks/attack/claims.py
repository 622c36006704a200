"""Folders that would claim more than their records allow: looks merged, lost or made up, predictions without numbers.

Owns these ways to spoil a folder. Whatever was done, no method is bounded nearer to the best than before, and none is
called better that was not; what is missing or cannot be is told, by file or by trial.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.folders import READERS, find_file, go_on
from benchmarks.attack.material import copy_finished
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, judge_crash, judge_refusal

NEAR = 1e-9

MERGES: dict[str, tuple[str, ...]] = {
    "alone": ("raced",),
    "with a copy": ("raced", "copy"),
    "with a copy of before its last look": ("early", "raced"),
    "packed": ("packed",),
    "in turn": ("early", "raced", "in turn"),
}
"""The parts that a merged folder is made of."""

LOSSES = ("file", "looks", "first look", "names")
"""What a raced folder loses of its looks."""

EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a falling plan and no look": lambda told: {"plan": [-3, 0], "looks": []},
    "a plan of no draws": lambda told: {**told, "plan": [0]},
    "a plan that stands still": lambda told: {**told, "plan": [3, 3]},
    "an empty plan": lambda told: {**told, "plan": []},
    "a plan of 400 digits": lambda told: {**told, "plan": [3, 10**400]},
    "a look of 400 digits": lambda told: {**told, "looks": [{**told["looks"][0], "draws": 10**400}]},
    "levels of 8 % together": lambda told: {**told, "looks": [{**each, "level": 0.027} for each in told["looks"]]},
    "a level that is no number": lambda told: {**told, "looks": [{**told["looks"][0], "level": math.nan}]},
    "a level below 0": lambda told: {**told, "looks": [{**told["looks"][0], "level": -0.01}]},
    "all of the error at a look": lambda told: {**told, "looks": [{**told["looks"][0], "level": 1.0}]},
}
"""Values that no count of looks can have."""


def merge_raced(stage: Stage, parts: Sequence[str]) -> None:
    """Merge raced folders: the whole claims no more than each of them."""
    for part in parts:
        _make_part(stage, part)
    given = [stage.folder / part for part in parts if part != "in turn"]
    for each in [[part] for part in given] if "in turn" in parts else [given]:
        outcome = stage.command("merge", *each, "--out", "merged")
        judge_crash(outcome)
        if outcome.code != 0:
            raise Caught("unclear", f"looks of one race are not put together: {outcome}")
    require_no_stronger(stage, stage.folder / "merged")


def _make_part(stage: Stage, name: str) -> None:
    if name == "in turn":
        return
    out = copy_raced(stage, name)
    if name == "packed":
        judge_crash(stage.command("pack", out))
    if name == "early":
        told = json.loads((out / "looks.json").read_text())
        (out / "looks.json").write_text(json.dumps({**told, "looks": told["looks"][:-1]}))


def lose_looks(stage: Stage, what: str) -> None:
    """A raced folder without its looks: an error of the audit, no stronger claim, and no merge."""
    import scripted_races

    out = copy_raced(stage)
    scripted_races.lose_looks(out, what)
    told = require_no_stronger(stage, out)
    require_error(told, "looks", [each["trial_id"] for each in _read_records(out) if each["status"] == "stopped"])
    for reader in READERS:
        judge_crash(stage.command(reader, out))
    judge_refusal(stage.command("merge", out, "--out", "merged"), ["looks.json"])
    study = stage.material / "race" / "raced" / "study.yaml"
    if what == "file":
        judge_refusal(stage.command("run", study, "--out", out, "--set", "until=null"), ["looks.json"])
    judge_crash(stage.command("run", study, "--out", out))
    require_no_stronger(stage, out)


def edit_looks(stage: Stage, what: str) -> None:
    """Looks that cannot be: refused by name by every command that goes by them."""
    out = copy_raced(stage)
    path = out / "looks.json"
    path.write_text(json.dumps(EDITS[what](json.loads(path.read_text()))))
    study = stage.material / "race" / "raced" / "study.yaml"
    for command, more in (
        ("report", (out,)), ("audit", (out,)), ("recommend", (out,)), ("watch", (out,)), ("run", (study, "--out", out)),
        ("merge", (out, "--out", "merged")),
    ):  # fmt: skip
        judge_refusal(stage.command(command, *more), ["looks.json"])
    judge_crash(stage.command("check", study, "--forecast", "--out", out, terms=Terms(limit=60)))


def spoil_predictions(stage: Stage, change: str, packed: bool) -> None:
    """Predictions of which no figure can be made, whatever their hashes say: told by trial; `run` repeats it."""
    import polars as pl

    out = copy_finished(stage)
    path = find_file(out, "predictions of pattern")
    trial_id = path.stem
    if packed:
        judge_crash(stage.command("pack", out))
        path = out / "predictions.parquet"
    table = pl.read_parquet(path, glob=False)
    own = table.filter(trial_id=trial_id) if packed else table
    others = table.filter(pl.col("trial_id") != trial_id) if packed else table.clear()
    # Rows that stand twice stand behind all others, where a packed table is read past them.
    changed = pl.concat([own, others, own]) if change == "rows twice" else pl.concat([others, SCORES[change](own)])
    changed.write_parquet(path)
    if packed:
        _mend_hash(out)
    outcome = stage.command("report", out, "--format", "json")
    judge_crash(outcome)
    if outcome.code == 2:
        judge_refusal(outcome, [trial_id])
    else:
        told = json.loads(outcome.output)
        require_error(told, "predictions", [trial_id])
        before = json.loads((stage.material / "report.json").read_text())
        if _count_done(told) != _count_done(before) - 1:
            raise Caught("silent_wrong", f"figures are made of predictions that are none: {_count_done(told)} trials")
    for reader in READERS:
        outcome = stage.command(reader, out)
        judge_crash(outcome)
        if reader == "audit" and trial_id not in "".join(outcome.output.split()):
            raise Caught("silent_wrong", f"the audit names no trial: {outcome}")
    go_on(stage, out)


def double_record(stage: Stage) -> None:
    """A packed record that stands twice, its hash mended: refused by the file's name."""
    out = copy_finished(stage)
    judge_crash(stage.command("pack", out))
    opening, *lines = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
    rest = b"".join([*lines, lines[-1]])
    header = json.loads(opening)
    header |= {"records": header["records"] + 1, "lines_sha256": hashlib.sha256(rest).hexdigest()}
    (out / "records.jsonl").write_bytes(json.dumps(header).encode() + b"\n" + rest)
    for command in ("report", *READERS):
        judge_refusal(stage.command(command, out), ["records.jsonl"])


def copy_raced(stage: Stage, name: str = "raced") -> Path:
    """A copy of the raced folder to be spoilt."""
    return Path(shutil.copytree(stage.material / "race" / "raced", stage.folder / name))


def require_no_stronger(stage: Stage, out: Path) -> Mapping[str, Any]:
    """A folder's report; Caught where it bounds a method nearer to the best than the race did, or calls it better."""
    outcome = stage.command("report", out, "--format", "json")
    judge_crash(outcome)
    if outcome.code != 0:
        raise Caught("unclear", str(outcome))
    told: Mapping[str, Any] = json.loads(outcome.output)
    now, before = _list_claims(told), _list_claims(json.loads((stage.material / "race" / "report.json").read_text()))
    stronger = [name for name, bound in now.items() if bound < before.get(name, math.inf) - NEAR]
    if stronger:
        raise Caught("silent_wrong", f"claims more than before of {', '.join(stronger)}: {now} and not {before}"[:400])
    return told


def _list_claims(told: Mapping[str, Any]) -> dict[str, float]:
    """How far each method may be below the best, and 0 for each that the leader is better than, 1 for each other."""

    def walk() -> Iterator[tuple[str, float]]:
        for each in told["decisions"][0]["contenders"]:
            bound = (each["regret"] or {}).get("bound")
            yield each["name"], math.inf if bound is None else bound
        for name, each in told["groups"][0]["verdict"]["comparisons"].items():
            yield f"better than {name}", float(each["answer"] != "better")

    return dict(walk())


def require_error(told: Mapping[str, Any], about: str, trials: Sequence[str]) -> None:
    """Caught where no error of the audit is about that and these trials."""
    errors = [each for each in told["findings"] if each["severity"] == "error" and about in each["rule"]]
    if not trials or not set(trials) <= {trial for each in errors for trial in each["trials"]}:
        raise Caught("silent_wrong", f"no error of the audit about {about} names {', '.join(trials)}: {errors}"[:400])


def _count_done(told: Mapping[str, Any]) -> int:
    """The trials of which a report makes figures."""
    return sum(row["done"] for group in told["groups"] for row in group["leaderboard"]["rows"])


def _read_records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((out / "trials").glob("*.json"))]


def _mend_hash(out: Path) -> None:
    opening, _, rest = (out / "records.jsonl").read_bytes().partition(b"\n")
    sha256 = hashlib.sha256((out / "predictions.parquet").read_bytes()).hexdigest()
    header = {**json.loads(opening), "predictions_sha256": sha256}
    (out / "records.jsonl").write_bytes(json.dumps(header).encode() + b"\n" + rest)


def _put(value: float | None, whole: bool) -> Callable[[Any], Any]:
    """Another value in the first score of every row, or of one."""

    def put(table: Any) -> Any:
        import polars as pl

        name = next(column for column in table.columns if column.startswith("score_"))
        odd = pl.lit(whole) | (pl.int_range(pl.len()) == 0)
        return table.with_columns(pl.when(odd).then(pl.lit(value, pl.Float32)).otherwise(pl.col(name)).alias(name))

    return put


SCORES: dict[str, Callable[[Any], Any]] = {
    "not a number": _put(math.nan, True),
    "one that is not a number": _put(math.nan, False),
    "infinite": _put(math.inf, True),
    "one below every number": _put(-math.inf, False),
    "one that is missing": _put(None, False),
}
"""Ways to make scores no numbers."""


def merge_cases(size: int) -> list[Case]:
    return [Case(name, merge_raced, {"parts": parts}) for name, parts in MERGES.items()]


def look_cases(size: int) -> list[Case]:
    cases = [Case(f"lost: {what}", lose_looks, {"what": what}) for what in LOSSES]
    cases += [Case(what, edit_looks, {"what": what}) for what in EDITS]
    random.Random(15).shuffle(cases)
    return cases


def prediction_cases(size: int) -> list[Case]:
    cases = [
        Case(f"{change}, {'packed' if packed else 'as run'}", spoil_predictions, {"change": change, "packed": packed})
        for change in ("rows twice", *SCORES)
        for packed in (True, False)
    ]
    return [*cases, Case("a packed record twice", double_record)]


KINDS = (
    Kind("raced folders merged", 14, merge_cases),
    Kind("looks lost or made up", 15, look_cases),
    Kind("predictions that are no numbers, or stand twice", 16, prediction_cases),
)
