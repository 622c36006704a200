"""Output folders damaged in every file, and what then reads them or goes on from them.

Owns the ways to damage a finished folder. A command that reads refuses by name or gives the figures of before; `run`
goes on and ends with every trial done and the metrics and predictions of before.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.material import (
    copy_finished,
    read_outcomes,
    require_done,
    require_equal,
    strip_volatile,
)
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, Outcome, judge_crash, judge_refusal

READERS = ("audit", "recommend", "watch")
"""Commands that read a folder besides `report`."""

SECONDS_A_TRIAL = 0.010
"""What a report may take for a trial, from a thousand trials on."""
MOST_MEMORY = 1 << 30
"""Bytes that a report may hold."""

JUNK: tuple[Any, ...] = (
    None, True, -1, 10**30, 7.5, "", "x", "[/b]", "\x1b[31m", [], ["x"], [[None]], {}, {"x": 1}, {"x": {"x": 1}},
    "NaN", "9" * 400,
)  # fmt: skip


def damage_file(stage: Stage, file: str, damage: str, reader: str) -> None:
    """Damage one file of a finished folder, read the folder, then let `run` go on."""
    out = copy_finished(stage)
    target = find_file(out, file)
    DAMAGES[damage](target)
    read_and_go_on(stage, out, target, reader)


def edit_record(stage: Stage, file: str, place: Sequence[Any], value: Any, reader: str) -> None:
    """Put another value somewhere into a record or another JSON file."""
    out = copy_finished(stage)
    target = find_file(out, file)
    content = json.loads(target.read_text().splitlines()[0] if file == "events" else target.read_text())
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    text = json.dumps(content)
    if file == "events":
        text = "\n".join([text, *target.read_text().splitlines()[1:]]) + "\n"
    target.write_text(text)
    bear_reading(stage, out, reader)
    go_on(stage, out)


def change_predictions(stage: Stage, file: str, change: str, reader: str) -> None:
    """Change the table of a trial's predictions: refused, or the figures of before; never others."""
    import polars as pl

    out = copy_finished(stage)
    target = find_file(out, file)
    TABLES[change](pl.read_parquet(target, glob=False)).write_parquet(target)
    read_and_go_on(stage, out, target, reader)


def read_and_go_on(stage: Stage, out: Path, target: Path, reader: str) -> None:
    """What reads refuses by name or gives the figures of before; what runs goes on to them."""
    for command, more in (("report", ("--format", "json")), (reader, ())):
        outcome = stage.command(command, out, *more)
        judge_crash(outcome)
        if outcome.code == 2:
            judge_refusal(outcome, [target.name if target.exists() else ""])
        elif outcome.code != 0:
            raise Caught("unclear", str(outcome))
        elif command == "report":
            require_same_report(stage, outcome)
    go_on(stage, out)


def bear_reading(stage: Stage, out: Path, reader: str) -> None:
    """What reads refuses with a message or works: a value that may be there was put there."""
    for command, more in (("report", ()), (reader, ())):
        outcome = stage.command(command, out, *more)
        judge_crash(outcome)
        if outcome.code == 2:
            judge_refusal(outcome, ())


def require_same_report(stage: Stage, outcome: Outcome) -> None:
    """Caught where a report has other figures than that of the undamaged folder."""
    told, before = (
        strip_volatile(json.loads(text)) for text in (outcome.output, (stage.material / "report.json").read_text())
    )
    if told["missing"]:  # it says that trials are missing, and of what
        return
    # Where study.yaml does not say it, a study is called as its folder.
    differing = [key for key in before if key != "name" and told.get(key) != before[key]]
    if differing:
        raise Caught("silent_wrong", f"a report of other figures ({', '.join(differing)}), and nothing said")


def go_on(stage: Stage, out: Path) -> None:
    """`run` goes on in the folder, to all trials done, the same metrics and predictions, and a sound report."""
    arguments = ("run", stage.material / "study.yaml", "--out", out)
    outcome = stage.command(*arguments, terms=Terms(limit=60))
    if outcome.code == 2 and "elete that file and run again" in str(outcome):  # the way out that it names must work
        judge_crash(outcome)
        (out / ("looks.json" if "looks.json: damaged" in str(outcome) else "study.yaml")).unlink()
        outcome = stage.command(*arguments, terms=Terms(limit=60))
    if outcome.code == 2 and "Is a directory" in str(outcome):  # nobody but a user can mend that: it was named
        judge_crash(outcome)
        return
    require_equal(require_done(out, outcome), read_outcomes(stage.material / "finished"))
    left = [path.name for path in out.rglob("*.part")]
    if left:
        raise Caught("unclear", f"left behind: {left[:3]}")
    again = stage.command("watch", out)
    judge_crash(again)
    if again.code != 0:
        raise Caught("unclear", f"after going on: {again}")


def find_file(out: Path, file: str) -> Path:
    """A file of the folder by a short name: `record of majority`, `predictions of pattern`, or its own name."""
    if file == "events":
        return out / "events.jsonl"
    if " of " not in file:
        return out / file
    what, method = file.split(" of ")
    record = next(
        path
        for path in sorted((out / "trials").glob("*.json"))
        if json.loads(path.read_text())["trial"]["method"] == method
    )
    return record if what == "record" else out / "predictions" / f"{record.stem}.parquet"


def _write(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def _cut(share: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return cut


def _scramble(seed: int) -> Callable[[Path], None]:
    def scramble(path: Path) -> None:
        rng = random.Random(seed)
        content = bytearray(path.read_bytes())
        for _ in range(4):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)

    return scramble


def _append(content: bytes) -> Callable[[Path], None]:
    def append(path: Path) -> None:
        path.write_bytes(path.read_bytes() + content)

    return append


def _be_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "emptied": _write(b""),
    "cut in half": _cut(0.5),
    "cut at its end": _cut(0.98),
    "a list": _write(b"[1, 2]"),
    "a number": _write(b"7"),
    "a text": _write(b'"x"'),
    "null": _write(b"null"),
    "an empty object": _write(b"{}"),
    "deep lists": _write(b"[" * 50_000),
    "deep objects": _write(b'{"a":' * 50_000),
    "random bytes": _write(random.Random(0).randbytes(3000)),
    "zeros": _write(bytes(3000)),
    "a half-written line more": _append(b'{"time": 17, "eve'),
    "a line of another type more": _append(b'[]\n7\n"x"\nnull\n{}\n{"time": "x", "event": []}\n'),
    "a folder": _be_folder,
}
"""Ways to damage a file, whatever it holds."""

FILES = (
    "study.yaml",
    "planned.json",
    "events.jsonl",
    "looks.json",
    "record of majority",
    "record of pattern",
    "predictions of majority",
    "predictions of pattern",
    "report.html",
)


def _without_column(name: str) -> Callable[[Any], Any]:
    return lambda table: table.drop(name)


def _cast_gold(table: Any) -> Any:
    import polars as pl

    return table.with_columns(pl.lit(1.5).alias("gold"))


def _other_labels(table: Any) -> Any:
    import polars as pl

    return table.with_columns(pl.lit("never seen").alias("predicted"))


def _no_labels(table: Any) -> Any:
    import polars as pl

    return table.with_columns(pl.lit(None, dtype=pl.String).alias("predicted"))


TABLES: dict[str, Callable[[Any], Any]] = {
    "no gold": _without_column("gold"),
    "no predicted": _without_column("predicted"),
    "no test_set": _without_column("test_set"),
    "no row_id": _without_column("row_id"),
    "half of the rows": lambda table: table.head(table.height // 2),
    "no rows": lambda table: table.head(0),
    "gold is a number": _cast_gold,
    "labels nobody has": _other_labels,
    "no answer": _no_labels,
    "one row": lambda table: table.head(1),
}
"""Ways to change a table of predictions that stays readable."""


def damage_cases(size: int) -> list[Case]:
    pairs = [(file, damage) for file in FILES for damage in DAMAGES]
    random.Random(3).shuffle(pairs)
    return [
        Case(f"{file}: {damage}", damage_file, {"file": file, "damage": damage, "reader": READERS[i % 3]})
        for i, (file, damage) in enumerate(pairs[:size])
    ]


def scramble_cases(size: int) -> list[Case]:
    files = ("predictions of pattern", "record of majority", "planned.json", "study.yaml", "events.jsonl", "looks.json")
    return [
        Case(f"{files[i % 6]} ({i})", bear_scrambled, {"file": files[i % 6], "seed": i, "reader": READERS[i % 3]})
        for i in range(size)
    ]


def bear_scrambled(stage: Stage, file: str, seed: int, reader: str) -> None:
    """A few bytes of a file changed: what reads refuses or works, and `run` goes on."""
    out = copy_finished(stage)
    _scramble(seed)(find_file(out, file))
    bear_reading(stage, out, reader)
    outcome = stage.command("run", stage.material / "study.yaml", "--out", out, terms=Terms(limit=60))
    judge_crash(outcome)
    if outcome.code != 0 and file not in ("study.yaml", "looks.json"):  # these may be another study's, and say so
        raise Caught("unclear", f"did not go on: {outcome}")


def edit_cases(size: int) -> list[Case]:
    places: dict[str, Sequence[tuple[Any, ...]]] = {
        "record of pattern": [
            ("schema_version",), ("trial_id",), ("trial",), ("trial", "shots"), ("trial", "variant"),
            ("trial", "settings"), ("trial", "model"), ("status",), ("labels",), ("primary_metric",), ("metrics",),
            ("metrics", "in_domain"), ("metrics", "in_domain", "accuracy"), ("baselines",), ("baselines", "in_domain"),
            ("baselines", "in_domain", "majority"), ("breakdowns",), ("cost",), ("cost", "fit_seconds"),
            ("cost", "peak_memory_bytes"), ("environment",), ("environment", "workers"), ("environment", "packages"),
            ("environment", "evaluation"), ("environment", "precision"), ("fingerprints",), ("fingerprints", "draw"),
            ("notes",), ("notes", "fit"), ("notes", "fit", "losses"), ("notes", "fit", "groups"),
            ("notes", "shared_rows"), ("notes", "task"), ("notes", "fit", "kept_epoch"), ("notes", "tuning"),
            ("notes", "references"), ("notes", "prompt"), ("notes", "prompt", "cut"), ("notes", "teacher"),
            ("notes", "demonstrations"), ("checkpoints",),
            ("phase_seconds",), ("phase_seconds", "fit"), ("started_at",), ("failure",),
        ],
        "planned.json": [("x",)],
        "events": [("time",), ("event",), ("trials",)],
    }  # fmt: skip
    drawn = [(file, place, value) for file, each in places.items() for place in each for value in JUNK]
    random.Random(6).shuffle(drawn)
    return [
        Case(
            f"{file}: {'.'.join(place)} is {str(value)[:20]!r}",
            edit_record,
            {"file": file, "place": place, "value": value, "reader": READERS[i % 3]},
        )
        for i, (file, place, value) in enumerate(drawn[:size])
    ]


def table_cases(size: int) -> list[Case]:
    return [
        Case(f"{change}, {method}", change_predictions,
             {"file": f"predictions of {method}", "change": change, "reader": READERS[i % 3]})
        for method in ("pattern", "majority")
        for i, change in enumerate(TABLES)
    ]  # fmt: skip


def entry_cases(size: int) -> list[Case]:
    texts = (
        "7", "[]", "region: [1]", "region: x", "region: .nan", "metrics: [x]", "metrics: {feelings: 7}", "name: [a]",
        "name: {a: b}", "models: 7", "tasks: {x: 1}", "region: 1e400", "name: '[/b]'", "a: *b", "\0", "tuning: 7",
        "[" * 3000, "evaluation: x", "region: " + "9" * 400,
    )  # fmt: skip
    return [Case(f"study.yaml is {text[:24]!r}", edit_study, {"text": text}) for text in texts]


def edit_study(stage: Stage, text: str) -> None:
    """Put another study.yaml into a finished folder: what reads refuses or works; `run` goes on or refuses."""
    out = copy_finished(stage)
    (out / "study.yaml").write_text(text)
    for reader in READERS:
        bear_reading(stage, out, reader)
    go_on(stage, out)


def other_folders(size: int) -> list[Case]:
    return [
        Case(f"{command} on {what}", read_other, {"command": command, "what": what})
        for command in ("report", *READERS, "run")
        for what in (
            "nothing",
            "an empty folder",
            "a file",
            "trials alone",
            "a folder of other files",
            "a link to itself",
        )
    ]


def read_other(stage: Stage, command: str, what: str) -> None:
    """What is no output folder is refused by name; nothing in it changes."""
    out = stage.folder / "other"
    if what == "a file":
        out.write_text("x")
    elif what == "a link to itself":
        out.symlink_to(out)
    elif what != "nothing":
        out.mkdir()
        if what == "trials alone":
            (out / "trials").mkdir()
        if what == "a folder of other files":
            (out / "thesis.txt").write_text("x")
    arguments = (stage.material / "study.yaml", "--out", out) if command == "run" else (out,)
    if command == "run" and what in ("nothing", "an empty folder"):
        require_done(out, stage.command("run", *arguments))
    else:
        judge_refusal(stage.command(command, *arguments), ["other"])


def large_cases(size: int) -> list[Case]:
    return [Case(f"{trials} trials", report_large, {"trials": trials}) for trials in (1000,)]


def report_large(stage: Stage, trials: int) -> None:
    """A large made-up study is reported, and looked at by `watch`, within bounds of time and memory."""
    import numpy as np

    from study_maker import make_study

    out = stage.folder / "large"
    rng = np.random.default_rng(0)
    for shots in range(trials // 50):
        draws = {f"method-{i}": (0.6 + 0.02 * i + rng.normal(0, 0.03, 5)).tolist() for i in range(10)}
        make_study(out, draws, shots=8 * (shots + 1), rows=500, rng=rng)
    bound = 10.0 + SECONDS_A_TRIAL * trials
    for command in ("report", "audit"):
        process = subprocess.Popen(
            [sys.executable, "-m", "fewtune.cli", command, str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started = time.perf_counter()
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.perf_counter() - started > 4 * bound * stage.patience:
                process.kill()
                break
            time.sleep(0.05)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = usage.ru_utime + usage.ru_stime
        told = f"{command} on {trials} trials: {seconds:.1f} s of processor time, {usage.ru_maxrss / 2**20:.2f} GiB"
        if seconds > bound or usage.ru_maxrss * 1024 > MOST_MEMORY:
            raise Caught("hang", told)
        if os.waitstatus_to_exitcode(status) != 0:
            raise Caught("traceback", told)


KINDS = (
    Kind("files of an output folder damaged", 8, damage_cases, size=len(FILES) * len(DAMAGES)),
    Kind("files of an output folder changed at random", 10, scramble_cases, size=30),
    Kind("records edited by hand", 10, edit_cases, size=100),
    Kind("predictions changed", 8, table_cases),
    Kind("study.yaml of an output folder replaced", 8, entry_cases),
    Kind("folders that hold no study", 8, other_folders),
    Kind("a large study", 13, large_cases, alone=True),
)
