"""Users' words that a terminal would take for more than words: markup, escape codes, signs it cannot show, formulas.

Owns the hostile words, where they are put (names, labels, columns, paths, answers of a model), and what may come of
them: nothing is stopped, nothing of a name is hidden, no escape code of theirs reaches the terminal.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.material import copy_finished, require_done, study_of
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, Outcome, judge_crash, judge_refusal

WORDS = {
    "closing markup": "reviews [/b] odd",
    "markup": "lora[rank=4]",
    "a colour": "[red]warm[/red]",
    "a link": "[link=https://example.org]here[/link]",
    "an action": "[@click=app.bell]ring",
    "braces": "{odd} %s {0}",
    "emoji code": ":warning: odd",
    "accents": "café crème",
    "Chinese": "評論",
    "an emoji": "good 👍🏽",
    "a formula": '=HYPERLINK("https://example.org","x")',
    "a quote and a comma": 'say "a", b',
    "HTML": "<script>alert(1)</script>",
    "a backslash": "odd\\[b]",
}
"""Words that can be shown as they are."""

CODES = {
    "red": "\x1b[31mred",
    "a title": "\x1b]0;owned\x07rest",
    "clear": "\x1b[2J\x1b[Hgone",
    "a bell": "ring\x07ring",
    "C1 codes": "a\x9b31mb",
    "carriage return": "abc\rxyz",
    "right to left": "abc\u202exyz",
    "backspaces": "bad\b\b\bgood",
    "hidden": "\x1b[8msecret",
}
"""Words with control codes: refused, or shown without them."""

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07|\r")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
"""What a live table begins and ends with."""
LASTING = "{pattern: {epochs: 20}}"
"""A method whose trials last long enough for the live table to be drawn."""
ENCODINGS = ("ascii", "latin-1", "cp1252", "utf-8")


def show_word(stage: Stage, word: str, place: str, terminal: bool, encoding: str | None, shown: bool) -> None:
    """Run, report, audit and watch a study that holds the word; see what the terminal gets."""
    study = write_study_with(stage, word, place)
    terms = Terms(terminal=terminal, encoding=encoding, limit=60, columns=300)
    outcome = stage.command("run", study, "--out", "out", terms=terms)
    judge_crash(outcome)
    if outcome.code == 2:
        if shown:
            raise Caught("unclear", f"a name that is none the worse is refused: {outcome}")
        require_no_codes(outcome, word)
        return
    require_done(stage.folder / "out", outcome)
    outcomes = [outcome]
    outcomes += [stage.command(command, "out", terms=terms) for command in ("report", "audit", "recommend", "watch")]
    for each in outcomes:
        judge_crash(each)
        if each.code != 0:
            raise Caught("unclear", str(each))
        require_no_codes(each, word)
    if shown and encoding in (None, "utf-8"):
        live = outcome.output.partition(HIDE_CURSOR)[2].partition(SHOW_CURSOR)[0]
        if "shots" in live:  # the live table was drawn
            require_shown(Outcome(("run, live",), 0, live, 0.0), word)
        for each in outcomes[:2] if place != "label" else [stage.command("check", study, terms=terms)]:
            require_shown(each, word)
    require_no_formula(stage, word)


def require_no_codes(outcome: Outcome, word: str) -> None:
    """Caught where a control code of the word's reached the terminal."""
    whole = any(sign in word for sign in "\x1b\x07\x9b\b\u202e")
    if whole and word in outcome.output:
        raise Caught("silent_wrong", f"control codes of a name reach the terminal: {outcome.arguments}")
    if "\r" in word and word in outcome.output:
        raise Caught("silent_wrong", f"a carriage return of a name reaches the terminal: {outcome.arguments}")


def require_shown(outcome: Outcome, word: str) -> None:
    """Caught where the word cannot be read in the output; it may be wrapped."""
    flat = re.sub(r"\s", "", ANSI.sub("", outcome.output))
    if re.sub(r"\s", "", word) not in flat:
        raise Caught("silent_wrong", f"{word!r} is shown otherwise by {outcome.arguments[0]}")


def require_no_formula(stage: Stage, word: str) -> None:
    """Caught where a cell of the CSV export begins a formula."""
    told = stage.command("report", "out", "--format", "csv")
    judge_crash(told)
    try:
        cells = [cell for row in csv.reader(io.StringIO(told.output, newline="")) for cell in row]
    except csv.Error as error:
        raise Caught("silent_wrong", f"the CSV export is no CSV: {error}") from error
    if any(cell[:1] in ("=", "@") or (cell[:1] in ("+", "-") and not _is_number(cell)) for cell in cells):
        raise Caught("silent_wrong", "a cell of the CSV export is a formula")


def write_study_with(stage: Stage, word: str, place: str) -> Path:
    """A study that holds the word as a task's name, a method's, the study's, a label or a model's folder."""
    quoted = json.dumps(word, ensure_ascii=False)
    if place == "task":
        return study_of(stage, task=quoted, methods=f"majority, {LASTING}")
    if place == "method":
        return study_of(stage, methods=f"majority, {{pattern: {{epochs: 20, as: {quoted}}}}}")
    if place == "model":
        folder = stage.folder / word.replace("/", "_")
        shutil.copytree(stage.material / "model", folder)
        return study_of(stage, model=json.dumps(str(folder)), methods="{in_context: {demonstrations: 2}}")
    if place == "label":
        data = stage.folder / "rows.jsonl"
        rows = [{"text": f"text number {i} of these", "label": word if i % 2 else "bad"} for i in range(80)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        path = study_of(stage, data=data, methods="majority, tfidf")
        words = '{name: p, template: "{text}. Label:", label_words: [" x", " y"]}'
        path.write_text(path.read_text().replace("label: label,", f"label: label, patterns: [{words}],"))
        return path
    path = study_of(stage, methods="majority, tfidf")
    path.write_text(path.read_text().replace("name: attacked", f"name: {quoted}"))
    return path


def show_table_word(stage: Stage, word: str) -> None:
    """Audit a table whose methods have the word for a name."""
    rows = [["method", "shots", "seed", "accuracy"], *([word, "16", str(i), "0.5"] for i in range(4))]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([*rows, ["lora", "16", "0", "0.7"]])
    (stage.folder / "table.csv").write_text(buffer.getvalue())
    outcome = stage.command("audit", "--table", "table.csv", terms=Terms(terminal=True))
    judge_crash(outcome)
    require_no_codes(outcome, word)


def show_fault(stage: Stage, word: str, encoding: str | None) -> None:
    """A study refused for an unknown name: the message holds it, without its codes."""
    study = stage.folder / "study.yaml"
    study.write_text(f"name: x\ntasks: [{json.dumps(word)}]\nmethods: [{json.dumps(word)}]\nshots: [4]\n")
    outcome = stage.command("check", study, terms=Terms(terminal=encoding is None, encoding=encoding))
    judge_refusal(outcome, [])
    require_no_codes(outcome, word)


def show_path(stage: Stage, word: str) -> None:
    """An output folder, and a data file, whose names are the word."""
    name = word.replace("/", "_").replace("\0", "")
    out = copy_finished(stage, name)
    for command in ("report", "watch", "audit"):
        outcome = stage.command(command, out, terms=Terms(terminal=True))
        judge_crash(outcome)
        require_no_codes(outcome, name)
    missing = stage.command("report", stage.folder / f"{name} gone", terms=Terms(terminal=True))
    judge_refusal(missing, [])
    require_no_codes(missing, name)


def speak_plainly(stage: Stage, encoding: str) -> None:
    """A real process whose output can show few signs: the whole way through works."""
    study = study_of(stage, task=json.dumps("評論 é"), methods="majority, tfidf")
    terms = Terms(limit=120, environment={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"})
    outcome = stage.real_command("run", study, "--out", "out", terms=terms)
    require_done(stage.folder / "out", outcome)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _places(words: dict[str, str], places: Sequence[str], shown: bool, terminal: bool = True) -> list[Case]:
    return [
        Case(
            f"{name} as {place}",
            show_word,
            {"word": word, "place": place, "terminal": terminal, "encoding": None, "shown": shown},
        )
        for name, word in words.items()
        for place in places
    ]


def markup_cases(size: int) -> list[Case]:
    cases = _places(WORDS, ("task",), shown=True)
    cases += _places(
        {k: WORDS[k] for k in ("closing markup", "markup", "a colour", "a formula")}, ("method",), shown=True
    )
    cases += _places({k: WORDS[k] for k in ("closing markup", "markup")}, ("study", "label", "model"), shown=False)
    return cases


def code_cases(size: int) -> list[Case]:
    return [
        *_places(CODES, ("task", "label"), shown=False),
        *_places({"red": CODES["red"]}, ("method", "study", "model"), shown=False),
        *(Case(f"{name} in a fault", show_fault, {"word": word, "encoding": None}) for name, word in CODES.items()),
        *(Case(f"{name} in a table", show_table_word, {"word": word}) for name, word in (WORDS | CODES).items()),
        *(Case(f"{name} as a path", show_path, {"word": word}) for name, word in (WORDS | CODES).items()),
    ]


def encoding_cases(size: int) -> list[Case]:
    words = {k: WORDS[k] for k in ("accents", "Chinese", "an emoji")}
    cases = []
    for encoding in ENCODINGS:
        for name, word in words.items():
            for terminal in (False, True) if encoding in ENCODINGS[:2] else (False,):
                where = "terminal" if terminal else "pipe"
                given = {"word": word, "place": "task", "terminal": terminal, "encoding": encoding, "shown": False}
                cases.append(Case(f"{name} on a {encoding} {where}", show_word, given))
            cases.append(Case(f"{name} in a fault, {encoding}", show_fault, {"word": word, "encoding": encoding}))
    real = [Case(f"a real process, {encoding}", speak_plainly, {"encoding": encoding}) for encoding in ENCODINGS[:2]]
    return cases + real


KINDS = (
    Kind("markup in names, on a terminal", 4, markup_cases),
    Kind("control codes in names, labels and paths", 4, code_cases),
    Kind("terminals and pipes of few signs", 11, encoding_cases),
)
