"""Study files that must be refused with a message: junk, bombs, huge numbers, wrong types at every key.

Owns how each is made. Data and model of the studies are sound, so that whatever is wrong is the study's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from benchmarks.attack.case import Case, Kind, draw_examples
from benchmarks.attack.material import FROZEN, study_of
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, judge_crash, judge_refusal

QUICK = Terms(limit=15.0, room=1 << 30)
"""Bounds of a `check` of a file of some kilobytes."""

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e21, 0.5, "", "x", "[/b]", "\x1b[31m", [], [[]], ["x"], [None], {}, {"x": 1},
    {"count": 10**7}, {"x": {"x": {}}}, "nan", "9" * 400, 10**300,
)  # fmt: skip
"""Values of other types than a key has, or far too large."""

RICH = """\
name: rich
models: [{name: MODEL, revision: abc}]
tasks:
  - own_files:
      train: DATA
      tests: {elsewhere: DATA}
      text: text
      label: label
      as: feelings
      patterns: [{name: feeling, template: "{text}. Feeling:", label_words: [" bad", " good"]}]
      metric: accuracy
      test_fraction: 0.25
methods:
  - majority
  - tfidf
  - in_context: {demonstrations: 2, calibration: contextual, as: shown}
  - pattern: {epochs: 1, learning_rate: 1.0e-4, batch_size: 4, pattern: feeling}
  - lora: {rank: 4, epochs: 1, grid: {learning_rate: [1.0e-4, 1.0e-3]}}
shots: [4, 8]
shots_per: total
sampling: balanced
data_seeds: {count: 2}
fit_seeds: [0]
evaluation: {in_domain_rows: 16, out_of_domain_rows: 8, checkpoint_every: 1}
pool_rows: 4
max_tokens: 64
precision: float32
patterns: default
metrics: {feelings: accuracy}
region: 0.02
baselines: false
"""
"""A study with most keys there are; some of its values do not fit together, which is no matter."""


def refuse_text(stage: Stage, text: str, names: Sequence[str] = ()) -> None:
    """`check` must refuse this file."""
    path = stage.folder / "study.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    judge_refusal(stage.command("check", path, terms=QUICK), names)


def refuse_bytes(stage: Stage, content: bytes) -> None:
    """`check` must refuse this file."""
    path = stage.folder / "study.yaml"
    path.write_bytes(content)
    judge_refusal(stage.command("check", path, terms=QUICK), ["study.yaml"])


def refuse_addition(stage: Stage, more: str, names: Sequence[str]) -> None:
    """`check` must refuse the sound study with these lines added or changed."""
    path = _change_lines(stage, more)
    judge_refusal(stage.command("check", path, terms=QUICK), names)


def _change_lines(stage: Stage, more: str) -> Path:
    path = study_of(stage, methods=FROZEN)
    keys = {line.split(":")[0] for line in more.splitlines() if line[:1].isalpha()}
    lines = [line for line in path.read_text().splitlines() if line.split(":")[0] not in keys]
    path.write_text("\n".join(lines) + "\n" + more + "\n")
    return path


def bear_addition(stage: Stage, more: str, refused: bool) -> None:
    """The sound study with these lines changed is refused, or sound where that is no matter."""
    path = _change_lines(stage, more)
    outcome = stage.command("check", path, terms=QUICK)
    judge_crash(outcome)
    if refused or outcome.code == 2:
        judge_refusal(outcome, [])


def bear_mutation(stage: Stage, place: Sequence[Any], value: Any) -> None:
    """One value of a rich study changed: refused with a short message, or sound; nothing else."""
    study = yaml.safe_load(RICH.replace("MODEL", str(stage.material / "model")).replace("DATA", "rows.csv"))
    target = study
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    path = stage.folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, allow_unicode=True))
    outcome = stage.command("check", path, "--data-dir", stage.material, terms=QUICK)
    judge_crash(outcome)
    if outcome.code == 2:
        judge_refusal(outcome, ())
    elif outcome.code != 0:
        raise Caught("unclear", str(outcome))


def bear_override(stage: Stage, override: str) -> None:
    """An override of a sound study: refused with a message that names `--set`, or sound."""
    path = study_of(stage, methods=FROZEN)
    outcome = stage.command("check", path, "--set", override, terms=QUICK)
    judge_crash(outcome)
    if outcome.code == 2:
        judge_refusal(outcome, ())


def list_places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested values, outermost first."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in entries:
        yield (*place, key)
        yield from list_places(each, (*place, key))


def deep_cases(size: int) -> list[Case]:
    shapes: dict[str, Callable[[int], str]] = {
        "lists": lambda n: "name: " + "[" * n + "]" * n,
        "mappings": lambda n: "name: " + "{a: " * n + "}" * n,
        "blocks": lambda n: "\n".join(" " * i + "a:" for i in range(n)),
        "items": lambda n: "name:\n" + "- " * n + "x",
        "open lists": lambda n: "[" * n,
        "in a method": lambda n: (
            f"name: x\ntasks: [sentiment]\nshots: [4]\nmethods: [lora: {{rank: {'[' * n}{']' * n}}}]"
        ),
        "keys": lambda n: "? " * n + "x",
        "tags": lambda n: "!!map " * n,
    }
    return [
        Case(f"{shape}, {times} levels", refuse_text, {"text": make(times)})
        for shape, make in shapes.items()
        for times in (500, 2000, 20_000)
        if shape != "blocks" or times <= 2000
    ]


def bomb_cases(size: int) -> list[Case]:
    cases = []
    for levels, width in ((9, 9), (20, 2), (30, 2), (6, 30)):
        lines = ["a0: &a0 [x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
        cases.append(Case(f"lists, {levels} levels of {width}", refuse_text, {"text": "\n".join(lines)}))
        lines = ["a0: &a0 {x: 1}"]
        named = ", ".join(f"k{n}: *aI" for n in range(width))
        lines += [f"a{i}: &a{i} {{{named.replace('aI', f'a{i - 1}')}}}" for i in range(1, levels)]
        cases.append(Case(f"mappings, {levels} levels of {width}", refuse_text, {"text": "\n".join(lines)}))
        bomb = "name: x\nmethods: [majority]\nshots: [4]\ntasks:\n" + "\n".join(f"  - {line}" for line in lines)
        cases.append(Case(f"in tasks, {levels} levels of {width}", refuse_text, {"text": bomb}))
    cases.append(Case("merged", refuse_text, {"text": "a: &a {x: 1}\nb: &b\n  <<: [*a, *a]\n" + "c: *b\n"}))
    cases.append(Case("itself", refuse_text, {"text": "name: &a [*a]"}))
    return cases


def count_cases(size: int) -> list[Case]:
    huge = (
        "10000000",
        "1e7",
        "999999999999",
        "1e21",
        "9" * 400,
        "-1",
        "0",
        ".nan",
        ".inf",
        "1e400",
        "0x7fffffffffffffff",
    )
    cases = []
    for number in huge:
        short = number[:20]
        for key in ("data_seeds", "fit_seeds"):
            given = {"more": f"{key}: {{count: {number}}}", "names": [key]}
            cases.append(Case(f"{key}: count {short}", refuse_addition, given))
        cases.append(Case(f"shots {short}", refuse_addition, {"more": f"shots: [{number}]", "names": []}))
        for setting in ("epochs", "learning_rate", "batch_size"):
            # A large batch is all rows; a large rate diverges, and is recorded as that.
            sound = setting == "epochs" and number.startswith("1") and number != "1e21" and number != "1e400"
            bad = (setting == "epochs" and not sound) or number in ("-1", "0", ".nan", ".inf", "1e400")
            changed: dict[str, Any] = {"more": f"methods: [{{pattern: {{{setting}: {number}}}}}]", "refused": bad}
            cases.append(Case(f"{setting} {short}", bear_addition, changed))
    cases += [
        Case(f"{key} {number[:20]}", refuse_addition, {"more": f"{key}: {number}", "names": []})
        for number in ("999999999999999999999999", "9" * 400, "-1", ".nan", "1e400")
        for key in ("pool_rows", "max_tokens")
    ]
    many = ", ".join(map(str, range(200_000)))
    given = {"more": f"data_seeds: [{many}]", "names": []}
    cases.append(Case("200,000 data seeds", refuse_addition, given))
    return cases


def junk_cases(size: int) -> list[Case]:
    names = st.sampled_from(["name", "models", "tasks", "methods", "shots", "data_seeds", "evaluation", "x", "as"])
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    nested = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=5), inner, max_size=4),
        max_leaves=15,
    )
    values = draw_examples(nested, size)
    texts = draw_examples(st.text(max_size=60), size // 2)
    yamls = draw_examples(st.text(alphabet="[]{}:,&*!|>-?#%@`'\" \n\tab0", max_size=60), size // 2)
    cases = [Case(f"values {i}", refuse_text, {"text": dump(value)}) for i, value in enumerate(values)]
    cases += [Case(f"text {i}", refuse_text, {"text": text}) for i, text in enumerate(texts)]
    return cases + [Case(f"signs {i}", refuse_text, {"text": text}) for i, text in enumerate(yamls)]


def dump(value: Any) -> str:
    """A value as YAML, or as JSON where YAML cannot write its text."""
    try:
        return str(yaml.safe_dump(value, allow_unicode=True))
    except (yaml.YAMLError, UnicodeEncodeError):
        return json.dumps(value)


def mutation_cases(size: int) -> list[Case]:
    places = list(list_places(yaml.safe_load(RICH)))
    drawn = [(place, value) for place in places for value in JUNK]
    random.Random(1).shuffle(drawn)
    return [
        Case(f"{'.'.join(map(str, place))} is {str(value)[:20]!r}", bear_mutation, {"place": place, "value": value})
        for place, value in drawn[:size]
    ]


def override_cases(size: int) -> list[Case]:
    values = (
        "",
        "=",
        "[",
        "{",
        "*a",
        "&a x",
        "nan",
        "1e400",
        "9" * 400,
        "[" * 3000,
        "null",
        "\x1b[31m",
        "[/b]",
        "\x00",
    )
    paths = ("shots", "name", "data_seeds", "methods.0", "evaluation.in_domain_rows", "nowhere", "", ".", "tasks.0.as")
    drawn = [f"{path}={value}" for path in paths for value in values if "\x00" not in value]
    random.Random(2).shuffle(drawn)
    return [Case(f"--set {text[:30]!r}", bear_override, {"override": text}) for text in drawn[:size]]


def byte_cases(size: int) -> list[Case]:
    sound = RICH.encode()
    contents = {
        "empty": b"",
        "UTF-16": RICH.encode("utf-16"),
        "invalid UTF-8": sound.replace(b"rich", b"ri\xff\xfe"),
        "Latin-1": "name: é\n".encode("latin-1"),
        "NUL": sound.replace(b"rich", b"ri\0ch"),
        "binary": bytes(range(256)) * 20,
        "escape codes": b"\x1b[31mname: x\x1b[0m",
        "two documents": sound + b"\n---\n" + sound,
        "a Python object": b"name: !!python/object/apply:os.system ['true']\n",
        "a timestamp": b"name: 2020-01-01\ntasks: 2020-01-01 10:00:00\n",
        "a set": b"? name\n? tasks\n",
        "a lone surrogate": sound.replace(b"as: feelings", b'as: "\\ud83d"'),
        "surrogates of JSON": sound.replace(b"name: rich", b'name: "\\ud83d\\udc4d"'),
        "sexagesimal": b"name: 1:30:30\nshots: [1:30]\n",
    }
    return [Case(name, refuse_bytes, {"content": content}) for name, content in contents.items()]


KINDS = (
    Kind("studies nested thousands of levels deep", 10, deep_cases),
    Kind("studies whose aliases multiply", 10, bomb_cases),
    Kind("studies with huge counts and numbers", 10, count_cases),
    Kind("studies of junk", 10, junk_cases, size=80),
    Kind("studies with a wrong type at any key", 10, mutation_cases, size=250),
    Kind("overrides of junk", 10, override_cases, size=60),
    Kind("study files that are no text", 10, byte_cases),
)
