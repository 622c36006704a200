"""Numbers no option can mean: of 400 digits, not a number, infinite, negative, empty.

Owns the options and the values. Each is refused with a message, or harmless.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.material import copy_finished
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import judge_crash, judge_refusal

VALUES = {
    "400 digits": "9" * 400,
    "400 digits below zero": "-" + "9" * 400,
    "400 decimals": "0." + "1" * 400,
    "5000 digits": "9" * 5000,
    "nan": "nan",
    "-nan": "-nan",
    "inf": "inf",
    "-inf": "-inf",
    "1e400": "1e400",
    "1e308": "1e308",
    "1e-400": "1e-400",
    "empty": "",
    "a space": " ",
    "-1": "-1",
    "0": "0",
    "a word": "many",
    "markup": "[/b]",
    "an escape code": "\x1b[31m1",
    "Arabic digits": "١٢",
    "underscores": "1_000",
    "hexadecimal": "0x10",
    "a comma": "1,5",
}

NEVER = ("nan", "-nan", "-inf", "empty", "a space", "-1", "a word", "markup", "an escape code", "400 digits below zero")
"""Values that no option of these can mean."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "run": ("--workers", "--cache-share", "--stall-after"),
    "recommend": (
        "--within",
        "--max-fit-seconds",
        "--max-memory",
        "--max-latency",
        "--out-of-domain-weight",
        "--queries",
    ),
    "watch": ("--every",),
    "audit": ("--majority",),
}
"""Options that take a number; one that a version has not is refused, as it should be."""

UNITS = ("GiB", " MB", "kB", "TiB", "gib")


def give_number(stage: Stage, command: str, option: str, value: str, refused: bool) -> None:
    """Give an option a value: refused by its name, or harmless."""
    out = copy_finished(stage)
    arguments: Sequence[object] = (out,)
    if command == "run":
        arguments = (stage.material / "study.yaml", "--out", out)
    if command == "audit":
        (stage.folder / "table.csv").write_text("method,shots,seed,accuracy\nlora,16,0,0.5\nlora,16,1,0.6\n")
        arguments = ("--table", "table.csv")
    given = f"{option}={value}"
    outcome = stage.command(command, *map(str, arguments), given, terms=Terms(limit=20, room=1 << 30))
    judge_crash(outcome)
    if refused or outcome.code == 2:
        judge_refusal(outcome, [option])


def number_cases(size: int) -> list[Case]:
    cases = []
    for command, options in OPTIONS.items():
        for option in options:
            for name, value in VALUES.items():
                given = {"command": command, "option": option, "value": value, "refused": name in NEVER}
                cases.append(Case(f"{option}: {name}", give_number, given))
    for unit in UNITS:
        for name in ("400 digits", "400 decimals", "nan", "-1", "0"):
            value = VALUES[name] + unit
            given = {"command": "recommend", "option": "--max-memory", "value": value, "refused": name in NEVER}
            cases.append(Case(f"--max-memory: {name}{unit}", give_number, given))
    return cases


KINDS = (Kind("numbers no option can mean", 10, number_cases),)
