"""Files of rows, and tables of results, that are damaged, hostile or not what they seem.

Owns how each is made of sound rows. What reads them is `check` and `run`, and `audit --table` for tables.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from benchmarks.attack.case import Case, Kind, draw_examples
from benchmarks.attack.material import FROZEN, read_outcomes, require_done, require_equal, study_of
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, judge_crash, judge_refusal

QUICK = Terms(limit=15.0, room=1 << 30)
"""Bounds of a `check` of some rows."""

TABLE = """\
method,task,shots,seed,accuracy,macro_f1,majority
lora,sst2,16,0,0.712,0.70,0.55
lora,sst2,16,1,0.731,0.72,0.55
pattern,sst2,16,0,0.698,0.69,0.55
pattern,sst2,16,1,0.700,0.70,0.55
majority,sst2,16,0,0.55,0.35,0.55
"""
"""A table of results as anyone would write one."""


def refuse_file(stage: Stage, name: str, content: bytes, names: Sequence[str] = ()) -> None:
    """`check` must refuse a study of this file, and name it."""
    path = stage.folder / name
    path.write_bytes(content)
    judge_refusal(stage.command("check", study_of(stage, data=path, methods=FROZEN), terms=QUICK), [name, *names])


def refuse_made(stage: Stage, make: str, names: Sequence[str] = ()) -> None:
    """`check` must refuse a study of a file that only a library can write, or that is no file."""
    path = MAKERS[make](stage.folder)
    outcome = stage.command("check", study_of(stage, data=path, methods=FROZEN), terms=QUICK)
    judge_refusal(outcome, [path.name, *names])


def bear_file(stage: Stage, name: str, content: bytes) -> None:
    """A study of this file is refused by name, or sound."""
    path = stage.folder / name
    path.write_bytes(content)
    _bear(stage, path)


def _bear(stage: Stage, path: Path) -> None:
    outcome = stage.command("check", study_of(stage, data=path, methods=FROZEN), terms=QUICK)
    judge_crash(outcome)
    if outcome.code == 2:
        judge_refusal(outcome, ["feelings"])  # the task: too few rows of a label are no one row's fault


def bear_mutation(stage: Stage, suffix: str, seed: int) -> None:
    """Sound rows with bytes changed, cut out or put in at random: refused by name, or sound."""
    path = stage.folder / f"rows{suffix}"
    path.write_bytes(mutate(write_rows(suffix), random.Random(seed)))
    _bear(stage, path)


def run_file(stage: Stage, name: str, content: bytes) -> None:
    """A study of this file is refused, or all its trials are done and equal in a second run."""
    path = stage.folder / name
    path.write_bytes(content)
    study = study_of(stage, data=path, methods=FROZEN)
    found = []
    for out in ("one", "two"):
        outcome = stage.command("run", study, "--out", out)
        judge_crash(outcome)
        if outcome.code == 2:
            return judge_refusal(outcome, [name])
        if outcome.code == 1:
            failures = [e["failure"] for e in read_outcomes(stage.folder / out).values() if e["failure"]]
            raise Caught("unclear", f"check passes; {failures[:1] or outcome}"[:400])
        found.append(require_done(stage.folder / out, outcome))
    require_equal(*found)
    return None


def order_labels(stage: Stage, labels: Sequence[str]) -> None:
    """Labels stand in one order and trials have one id, whatever texts hash to."""
    path = stage.folder / "rows.csv"
    rows = [f"text number {i} of these,{labels[i % len(labels)]}" for i in range(60)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    study = study_of(stage, data=path, methods="majority")
    told = {}
    for seed in ("0", "1", "2", "3"):
        outcome = stage.real_command("check", study, terms=Terms(limit=60, environment={"PYTHONHASHSEED": seed}))
        judge_crash(outcome)
        if outcome.code == 2:
            return judge_refusal(outcome, ["label"])
        told[seed] = outcome.output
    if len(set(told.values())) > 1:
        raise Caught("silent_wrong", f"{len(set(told.values()))} different studies of {len(told)} equal ones")
    return None


def audit_file(stage: Stage, content: bytes, refused: bool = False) -> None:
    """`audit --table` refuses this table by name, or finds what it finds."""
    path = stage.folder / "table.csv"
    path.write_bytes(content)
    outcome = stage.command("audit", "--table", path, terms=QUICK)
    judge_crash(outcome)
    if refused or outcome.code == 2:
        judge_refusal(outcome, ["table.csv"])


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, put in, cut out or repeated."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 1:
            changed[at:at] = bytes(rng.choice(b'",\n\r\t\0\xff{}[]\\') for _ in range(rng.randint(1, 4)))
        elif kind == 2:
            del changed[at : at + rng.randint(1, 40)]
        elif kind == 3:
            del changed[at:]
        else:
            changed[at:at] = changed[max(0, at - 50) : at]
        if not changed:
            break
    return bytes(changed)


def write_rows(suffix: str, rows: Sequence[tuple[str, str]] | None = None) -> bytes:
    """Sound rows in one of the kinds of file."""
    given = rows or [(f"text number {i} is {'fine' if i % 2 else 'poor'}", ("bad", "good")[i % 2]) for i in range(60)]
    if suffix == ".parquet":
        import io

        import polars as pl

        buffer = io.BytesIO()
        pl.DataFrame({"text": [t for t, _ in given], "label": [l for _, l in given]}).write_parquet(buffer)  # noqa: E741
        return buffer.getvalue()
    if suffix == ".jsonl":
        return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in given).encode()
    sign = "," if suffix == ".csv" else "\t"
    return "".join(f"{text}{sign}{label}\n" for text, label in [("text", "label"), *given]).encode()


def _parquet(**columns: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import polars as pl

        path = folder / "made.parquet"
        pl.DataFrame(columns, strict=False).write_parquet(path)
        return path

    return make


def _other(make: Callable[[Path], None], name: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return made


_TEXTS = [f"text {i} of many" for i in range(60)]
_LABELS = [("bad", "good")[i % 2] for i in range(60)]

MAKERS: dict[str, Callable[[Path], Path]] = {
    "binary label": _parquet(text=_TEXTS, label=[label.encode() for label in _LABELS]),
    "binary text": _parquet(text=[text.encode() for text in _TEXTS], label=_LABELS),
    "a list column": _parquet(text=[[text] for text in _TEXTS], label=_LABELS),
    "a nested column": _parquet(text=[{"a": text} for text in _TEXTS], label=_LABELS),
    "no label": _parquet(text=_TEXTS, label=[None] * 60),
    "no rows": _parquet(text=[], label=[]),
    "no columns": _parquet(),
    "a folder": _other(Path.mkdir, "made.csv"),
    "a pipe": _other(os.mkfifo, "made.csv"),
    "a link to itself": _other(lambda path: path.symlink_to(path.name), "made.csv"),
    "nothing": _other(lambda path: None, "made.jsonl"),
}
"""Files that only a library or the system can make, by what is wrong with them."""


def mutation_cases(size: int) -> list[Case]:
    suffixes = (".csv", ".tsv", ".jsonl", ".parquet", ".parquet")
    return [
        Case(f"rows{suffixes[seed % 5]} ({seed})", bear_mutation, {"suffix": suffixes[seed % 5], "seed": seed})
        for seed in range(size)
    ]


def parquet_cases(size: int) -> list[Case]:
    return [Case(name, refuse_made, {"make": name}) for name in MAKERS]


def label_cases(size: int) -> list[Case]:
    sets = (("1", "2", "nan"), ("0", "nan"), ("nan", "NaN", "1"), ("inf", "-inf", "nan", "3"), ("1", "1.0", "01"))
    return [Case(f"labels {', '.join(labels)}", order_labels, {"labels": labels}) for labels in sets]


def surrogate_cases(size: int) -> list[Case]:
    lone = "\ud83d"
    places: dict[str, Callable[[int], tuple[str, str]]] = {
        "in a label": lambda i: (f"text {i}", "good" if i % 2 else f"b{lone}d"),
        "in a text": lambda i: (f"text {i} {lone if i == 7 else ''}", "good" if i % 2 else "bad"),
        "in every text": lambda i: (f"{lone}{i}", "good" if i % 2 else "bad"),
    }
    return [
        Case(name, run_file, {"name": "rows.jsonl", "content": write_rows(".jsonl", [make(i) for i in range(60)])})
        for name, make in places.items()
    ]


def json_cases(size: int) -> list[Case]:
    sound = write_rows(".jsonl")
    lines = {
        "deep lists": b"[" * 100_000,
        "deep closed lists": b'{"text": ' + b"[" * 50_000 + b"]" * 50_000 + b', "label": "good"}',
        "deep objects": b'{"text": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b', "label": "good"}',
        "a number": b"7",
        "a list": b"[1, 2]",
        "null": b"null",
        "NaN": b'{"text": NaN, "label": "good"}',
        "a huge number": b'{"text": ' + b"9" * 5000 + b', "label": "good"}',
        "an open text": b'{"text": "a',
        "an object as label": b'{"text": "a", "label": {"x": 1}}',
        "NUL": b'{"text": "\0", "label": "good"}',
    }
    refused = ("deep lists", "deep closed lists", "deep objects", "a number", "a list", "null", "an open text")
    cases = []
    for name, line in lines.items():
        given = {"name": "rows.jsonl", "content": sound + line + b"\n"}
        cases.append(Case(f"a row is {name}", refuse_file if name in refused else bear_file, given))
    return cases


def twice_cases(size: int) -> list[Case]:
    lines = {
        "a text": (b'{"text": "a", "text": "b", "label": "good"}', "text"),
        "a text, apart": (b'{"text": "a", "label": "good", "text": "b"}', "text"),
        "a label": (b'{"text": "a", "label": "good", "label": "bad"}', "label"),
        "equal values": (b'{"text": "a", "label": "good", "label": "good"}', "label"),
        "spelt otherwise": (b'{"text": "a", "te\\u0078t": "b", "label": "good"}', "text"),
        "a column that is not read": (b'{"text": "a", "label": "good", "id": 1, "id": 2}', "id"),
        "within a value": (b'{"text": "a", "label": "good", "more": {"at": 1, "at": 2}}', "at"),
        "a long key": (b'{"text": "a", "label": "good", "' + b"k" * 5000 + b'": 1, "' + b"k" * 5000 + b'": 2}', "kkk"),
        "markup": (b'{"text": "a", "label": "good", "[/b]": 1, "[/b]": 2}', "[/b]"),
    }
    sound = write_rows(".jsonl")
    return [
        Case(
            f"{name} twice",
            refuse_file,
            {"name": "rows.jsonl", "content": sound + line + b"\n", "names": ["line 61", key]},
        )
        for name, (line, key) in lines.items()
    ]


def cell_cases(size: int) -> list[Case]:
    rows = [(f"text {i} here", ("bad", "good")[i % 2]) for i in range(60)]
    long = "word " * 4000
    contents: dict[str, tuple[bytes, Sequence[str]]] = {
        "a huge cell": (write_rows(".csv", [*rows, ("x" * 2_000_000, "good")]), ["1000000"]),
        "a label of 20,000 characters": (write_rows(".csv", [*rows, ("a text", long.strip())]), ["label"]),
        "every label of 20,000 characters": (
            write_rows(".csv", [(text, label + long.strip()) for text, label in rows]), ["label"]),
        "contradictory rows": (
            write_rows(".csv", [(f"text {i}", label) for i in range(30) for label in ("bad", "good")]), ["label"]),
        "a label that is an id": (write_rows(".csv", [(f"text {i}", f"id-{i:06d}") for i in range(1500)]), ["id"]),
        "6,000 labels": (
            write_rows(".csv", [(f"text {i} {k}", f"label-{i}") for i in range(6000) for k in range(3)]), ["6000"]),
        "one label": (write_rows(".csv", [(text, "good") for text, _ in rows]), ["good"]),
        "a single row": (write_rows(".csv", rows[:1]), []),
        "a header alone": (b"text,label\n", []),
        "no label column": (b"text,other\na,b\n", ["label"]),
        "a column twice": (b"text,text,label\na,b,c\n", ["text"]),
        "an open quote": (write_rows(".csv") + b'"text,good\n', []),
        "UTF-16 without its mark": (write_rows(".csv").decode().encode("utf-16-le"), []),
        "half of UTF-16": (write_rows(".csv").decode().encode("utf-16")[:-1], []),
        "UTF-32": (write_rows(".csv").decode().encode("utf-32"), []),
        "Latin-1": (write_rows(".csv") + "café,good\n".encode("latin-1"), []),
        "empty": (b"", []),
        "blank lines": (b"\n\n\n", []),
        "NUL bytes": (b"\0" * 5000, []),
        "a GIF": (b"GIF89a" + bytes(range(256)), []),
    }  # fmt: skip
    return [
        Case(name, refuse_file, {"name": "rows.csv", "content": content, "names": names})
        for name, (content, names) in contents.items()
    ]


def table_cases(size: int) -> list[Case]:
    sound = TABLE.encode()
    cells = (
        "9" * 400,
        "nan",
        "inf",
        "-1",
        "1e400",
        "",
        " ",
        "[/b]",
        "\x1b[31m",
        "=1+1",
        "٣",
        "0x1",
        "1,5",
        '"',
        "\0",
        "½",
    )
    cases = []
    for old in ("0.712", "16", "lora", "0.55", "accuracy", "sst2"):
        for cell in cells:
            content = sound.replace(old.encode(), cell.encode(), 1)
            cases.append(Case(f"{old} is {cell[:12]!r}", audit_file, {"content": content}))
    for name, content in {
        "empty": b"", "a header": b"method,accuracy\n", "UTF-16": TABLE.encode("utf-16"), "binary": bytes(range(256)),
        "no method": b"a,b\n1,2\n", "NUL": b"\0" * 100,
    }.items():  # fmt: skip
        cases.append(Case(name, audit_file, {"content": content, "refused": True}))
    drawn = draw_examples(st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=5), max_size=5), size // 4)
    for i, rows in enumerate(drawn):
        content = "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")
        cases.append(Case(f"junk {i}", audit_file, {"content": content}))
    for seed in range(size // 2):
        content = mutate(sound, random.Random(seed))
        cases.append(Case(f"changed at random ({seed})", audit_file, {"content": content}))
    random.Random(4).shuffle(cases)
    return cases[: 2 * size]


KINDS = (
    Kind("rows changed at random", 10, mutation_cases, size=150),
    Kind("Parquet columns and files of another kind", 6, parquet_cases),
    Kind("labels that order by hash", 5, label_cases),
    Kind("lone surrogates", 10, surrogate_cases),
    Kind("JSON Lines deep, broken or of another type", 10, json_cases),
    Kind("JSON objects with a key twice", 10, twice_cases),
    Kind("cells, labels and encodings that cannot be used", 11, cell_cases),
    Kind("tables of results for audit --table", 10, table_cases, size=60),
)
