"""A look at rows: what there is, by hand; short lines whatever the rows; languages where they can be told."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from transformers import AutoTokenizer

from fewtune.fitting.languages import Language, find_languages
from fewtune.fitting.row_look import (
    COLUMNS,
    ModelFacts,
    ModelReading,
    RowLook,
    format_row_look,
    look_at_rows,
    read_model_facts,
)
from fewtune.models import is_english
from fewtune.system.terminal import make_safe
from fewtune.tasks.base import RowsLeftOut, Task
from own_rows import read

GERMAN = (
    "Wo bleibt denn meine neue Karte, ich warte schon lange darauf",
    "Das Paket kam heute kaputt bei mir an, so geht das nicht",
    "Ich möchte bitte mein Geld für diese Bestellung zurück haben",
    "Der Kundendienst war wirklich sehr freundlich und schnell",
)
FRENCH = ("Je voudrais savoir où se trouve ma nouvelle carte, car je l'attends depuis longtemps",)


@pytest.fixture
def skewed(tmp_path: Path) -> Task:
    """Labels of 6, 3 and 1 rows, of 16: 3 repeat a text, 2 contradict each other, 1 is tested on."""
    rows = [f"a {'b ' * i}end,common" for i in range(7)] + ["A b end!,common"] * 3
    rows += ["such,rare", "such a thing,rare", "such another thing,rare", "both,common", "both,rare", "alone here,once"]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows, ",common"]))
    (tmp_path / "test.csv").write_text("text,label\na end,common\nnew,rare\n")
    return read(tmp_path, tests={"in_domain": "test.csv"}, missing="drop")


def test_a_look_counts_what_a_file_holds_and_what_is_left_out_of_it(skewed: Task) -> None:
    look = look_at_rows(skewed)
    assert (look.rows, look.labels) == (10, (("common", 6), ("rare", 3), ("once", 1)))
    assert look.left_out == RowsLeftOut(unfilled=1, repeated=3, contradictory=2, tested=1)
    assert (look.unit, look.median_length, look.longest) == ("word", 3.5, 8)
    assert (look.single, look.rare, look.majority_share) == (("once",), ("rare",), 0.6)
    assert format_row_look(replace(look, languages=())) == [
        "10 rows, 3 labels: common 6, rare 3, once 1.",
        "Median 4 words, longest 8.",
        "Rows left out: 3 repeated, 2 contradictory, 1 among the test rows, 1 unfilled.",
        "once has one row: fitted on, never judged; rare has under 5 rows: hard to judge.",
        "Always answering common is right on 60 %; 10 rows tell accuracy to ±31 points.",
    ]


def test_rows_that_a_model_cuts_are_counted(skewed: Task) -> None:
    def count(texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    short, long = (ModelFacts(name, most, count, True) for name, most in (("short", 4), ("long", 8)))  # type: ignore[arg-type]
    look = look_at_rows(skewed, [long, short])
    assert [(each.longer, each.looked) for each in look.readings] == [(0, 10), (4, 10)]
    assert "longest 8; short cuts 4 rows at 4 tokens." in format_row_look(look)[1]
    many = replace(look, rows=2000, readings=(ModelReading("short", 4, 125, 500, True),))
    assert "short cuts about 25 % at 4 tokens." in format_row_look(many)[1]


def test_a_models_tokens_are_counted_as_it_reads_them(model_folders: dict[str, Path]) -> None:
    texts = ["good", "a much longer text of several words, and some more"]
    for name, special in (("llama", 0), ("bert", 2)):
        facts, own = read_model_facts(str(model_folders[name])), AutoTokenizer.from_pretrained(model_folders[name])
        plain = [len(own(text, add_special_tokens=False)["input_ids"]) for text in texts]
        assert (facts.most_tokens, facts.english) == (128, None), "all positions, special tokens among them"
        assert list(facts.count_tokens(texts)) == [tokens + special for tokens in plain]
        bounded = read_model_facts(str(model_folders[name]), max_tokens=7)
        assert bounded.most_tokens == 7 and list(bounded.count_tokens(texts)) == plain


labels = st.lists(st.tuples(st.text(min_size=1, max_size=60), st.integers(1, 20_000)), min_size=2, max_size=150)
counts = st.integers(0, 99_999)
languages = st.lists(st.sampled_from(["en", "de", "fr", "eo", "zh"]), max_size=4, unique=True)


@given(labels=labels, left_out=st.builds(RowsLeftOut, counts, counts, counts, counts), codes=languages, name=st.text())
def test_a_look_is_worded_in_six_lines_that_a_terminal_holds(
    labels: list[tuple[str, int]], left_out: RowsLeftOut, codes: list[str], name: str
) -> None:
    ordered = tuple(sorted(labels, key=lambda each: -each[1]))
    look = RowLook(
        rows=sum(count for _, count in labels),
        labels=ordered,
        unit="word",
        median_length=12.5,
        longest=12_345,
        languages=tuple(Language(code, 1 / len(codes)) for code in codes),
        readings=tuple(ModelReading(f"{name}{i}", 512, 20 * i, 500, True) for i in range(4)),
        left_out=left_out,
    )
    lines = format_row_look(look)
    assert len(lines) <= 6
    for line in lines:
        assert cell_len(line) <= COLUMNS and "\n" not in line and make_safe(line) == line, line


def test_other_languages_than_a_models_are_told() -> None:
    pytest.importorskip("py3langid")
    assert find_languages(GERMAN) == (Language("de", 1.0),)
    mixed = find_languages([*GERMAN, *FRENCH])
    assert mixed == (Language("de", 0.8), Language("fr", 0.2))
    assert find_languages(["A-1234 x", "B-777 y", "12.50"]) == ()
    brief = ["it is late", "never again", "not what I ordered", "so good", "where is it"]
    assert find_languages(brief[:1]) == () and find_languages(brief) == (Language("en", 1.0),), (
        "together they are clear"
    )
    look = RowLook(
        5, (("a", 3), ("b", 2)), "word", 9, 12, mixed, (ModelReading("minilm-l6", 256, 0, 5, True),), RowsLeftOut()
    )
    assert (
        format_row_look(look)[2] == "In German (80 %) and French (20 %); minilm-l6 mostly knows English: expect less."
    )
    assert format_row_look(replace(look, readings=(ModelReading("gemma3-270m", 512, 0, 5, False),)))[2] == (
        "In German (80 %) and French (20 %)."
    )
    assert format_row_look(replace(look, languages=(Language("en", 1.0),)))[2] == "In English."


def test_without_the_library_nothing_is_said_of_languages(monkeypatch: pytest.MonkeyPatch, skewed: Task) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    assert find_languages(GERMAN) == ()
    assert not any(line.startswith("In ") for line in format_row_look(look_at_rows(skewed)))


def test_the_catalogue_says_which_models_mostly_know_english() -> None:
    assert is_english("minilm-l6") and is_english("smollm2-135m:chat")
    assert is_english("gemma3-270m") is False and is_english("./mine") is None
