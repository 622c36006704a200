"""Your own files: four formats read alike, and every bad input refused in one message."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from fewtune.errors import DataError
from fewtune.tasks.base import Pattern
from fewtune.tasks.draw import Sampling, make_draw, share_support
from fewtune.tasks.patterns import check_pattern
from own_rows import Write, read, refusal

TRAIN = "text,label\n" + "".join(f"row number {i},{'bad' if i % 2 else 'good'}\n" for i in range(40))


def test_csv_tsv_jsonl_and_parquet_give_the_same_rows(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    frame = pl.read_csv(tmp_path / "train.csv")
    frame.write_csv(tmp_path / "train.tsv", separator="\t")
    frame.write_ndjson(tmp_path / "train.jsonl")
    frame.write_parquet(tmp_path / "train.parquet")
    prints = {read(tmp_path, train=f"train.{kind}").fingerprint for kind in ("csv", "tsv", "jsonl", "parquet")}
    assert len(prints) == 1


def test_without_tests_each_draw_is_tested_on_its_own_quarter_of_each_label(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN + "".join(f"further row {i},neither\n" for i in range(12)))
    task = read(tmp_path)
    draws = [make_draw(task, Sampling(6, pool_rows=9), seed) for seed in range(8)]
    for draw in draws:
        (test,) = draw.test_sets
        assert Counter(task.labels[row.label or 0] for row in test.rows) == {"bad": 5, "good": 5, "neither": 3}
        sides = [{row.row_id for row in rows} for rows in (draw.support, draw.pool, test.rows)]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 6 + 9 + 13
    assert len({draw.fingerprint for draw in draws}) == 8
    tested = {row.row_id for draw in draws for row in draw.test_sets[0].rows}
    assert len(tested) > 40, "every draw holds out others"
    assert share_support(task, draws[0]) == pytest.approx(2 / 12), "of the rarest label"


def test_more_shots_of_one_draw_are_tested_on_the_same_rows(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    task = read(tmp_path)
    few, many = (make_draw(task, Sampling(shots), 3) for shots in (4, 16))
    assert few.test_sets == many.test_sets
    assert {row.row_id for row in few.support} < {row.row_id for row in many.support}


def test_shots_that_what_is_held_out_leaves_too_few_rows_for_are_refused(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    with pytest.raises(DataError, match="there are 30 training rows beside the 10 that each draw is tested on"):
        make_draw(read(tmp_path), Sampling(32), 0)


def test_results_are_compared_by_macro_f1_beyond_two_labels_unless_told(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    assert read(tmp_path).primary_metric == "accuracy"
    write("train.csv", TRAIN + "".join(f"further row {i},neither\n" for i in range(20)))
    assert read(tmp_path).primary_metric == "macro_f1"
    assert read(tmp_path, metric="accuracy").primary_metric == "accuracy"


def test_the_in_domain_test_stands_first_and_others_keep_their_names(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    write("a.csv", "text,label\nanother row,good\n")
    write("b.csv", "text,label\nyet another,bad\n")
    task = read(tmp_path, tests={"elsewhere": "a.csv", "in_domain": "b.csv"})
    assert [test_set.name for test_set in task.test_sets] == ["in_domain", "elsewhere"]
    assert len(task.train) == 40


def test_a_name_near_in_domain_beside_it_is_a_name(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    write("test.csv", "text,label\nfresh,good\nstale,bad\n")
    write("later.csv", "text,label\nfine,good\npoor,bad\n")
    tests = {"in_domain": "test.csv", "in_domain_2": "later.csv"}
    assert [each.name for each in read(tmp_path, tests=tests).test_sets] == ["in_domain", "in_domain_2"]


def test_words_are_derived_from_label_names_and_said_in_the_notes(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN.replace("good", "very_good"))
    task = read(tmp_path)
    assert task.labels == ("bad", "very_good")
    assert task.patterns == (Pattern("derived", "{text}\nLabel:", (" bad", " very good"), constrained=True),)
    assert any("very_good = ' very good'" in note for note in task.notes)


def test_a_pattern_may_be_constrained(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    given = {"name": "p", "template": "{text} It is", "label_words": [" not so good", " not bad"], "constrained": True}
    assert read(tmp_path, patterns=[given]).patterns[0].constrained
    assert not read(tmp_path, patterns=[given | {"constrained": False}]).patterns[0].constrained


@pytest.mark.parametrize(("good", "bad"), [("1", "0"), ("1.5", "2"), ("bad one", "bad")])
def test_numbers_and_colliding_names_get_letters(tmp_path: Path, write: Write, good: str, bad: str) -> None:
    write("train.csv", TRAIN.replace("bad", bad).replace("good", good))
    assert read(tmp_path).patterns[0].label_words == (" A", " B")


def test_numeric_labels_are_in_numeric_order(tmp_path: Path, write: Write) -> None:
    write("train.csv", "text,label\n" + "".join(f"row {i} is here,{i % 12}\n" for i in range(120)))
    assert read(tmp_path).labels == tuple(str(i) for i in range(12))


def test_pairs_of_texts_are_recognised(tmp_path: Path, write: Write) -> None:
    write("train.csv", "id,premise,hypothesis,label\n" + "".join(f"{i},p{i},h{i},{i % 2}\n" for i in range(40)))
    task = read(tmp_path)
    assert task.fields == ("premise", "hypothesis")
    assert task.patterns[0].template == "{premise}\n{hypothesis}\nLabel:"


def test_rows_shared_with_a_test_are_dropped_with_a_note(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    write("test.csv", "text,label\nRow number 3!,bad\nfresh,good\n")
    task = read(tmp_path, tests={"in_domain": "test.csv"})
    assert len(task.train) == 39
    assert "train: 1 row left out whose text is in a test set." in task.notes


def test_patterns_take_words_by_label_or_in_order(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    by_label = {"name": "p", "template": "{text} It is", "label_words": {"good": " yes", "bad": " no"}}
    in_order = {"name": "q", "template": "{text} It is", "label_words": [" no", " yes"]}
    task = read(tmp_path, patterns=[by_label, in_order])
    assert [pattern.label_words for pattern in task.patterns] == [(" no", " yes"), (" no", " yes")]


def test_rows_that_lack_something_are_left_out_where_told_and_keep_the_others_numbers(
    tmp_path: Path, write: Write
) -> None:
    write("train.csv", "text,label\n,good\n,\n" + TRAIN.partition("\n")[2])
    write("test.csv", "text,label\nfresh,good\n,bad\nolder,bad\n")
    assert "train.csv: row 1 has no text in column 'text'" in refusal(tmp_path)
    task = read(tmp_path, missing="drop", tests={"in_domain": "test.csv"})
    assert [row.row_id for row in task.train][:2] == ["train/3", "train/4"] and len(task.train) == 40
    assert [row.row_id for row in task.test_sets[0].rows] == ["in_domain/1", "in_domain/3"]
    assert "1 row without any filled cell left out." in task.notes
    told = [note for note in task.notes if "without a text or a label left out" in note]
    assert len(told) == 2 and told[0].startswith("1 row (1)") and "test.csv: 1 row (2)" in told[1]
    write("train.csv", "text,label\n,good\nb,\n")
    assert "no row has both a text and a label" in refusal(tmp_path, missing="drop")


def test_quoted_cells_may_hold_commas_newlines_and_long_texts(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN + '"a, b\nc ""d""",good\n' + "x" * 500_000 + ",bad\n")
    texts = {row.fields["text"] for row in (*read(tmp_path).train, *read(tmp_path).test_sets[0].rows)}
    assert 'a, b\nc "d"' in texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty: it holds no rows. Give a file with labelled rows."),
        ("text,label\n", "the file is empty"),
        ("text,label\na,x\nb,x\n", "every row has the label 'x' in column 'label'. Give rows of at least two labels"),
        ("text,label\na,x\nb,y,z\n", "row 2 (line 3) has 3 cells, but the header names 2 columns (text, label)."),
        ("text,label\na\n", "row 1 (line 2) has 1 cell, but the header names 2 columns"),
        ('text,label\n"a,x\nb,y\n', "row 1 (line 3) cannot be read"),
        (b"text,label\na,x\n\xff\xfe,y\n", "line 3 is not UTF-8 (byte 0xff). Save the file as UTF-8."),
        ("text,label\na,x\n" + "b" * 1_000_001 + ",y\n", "row 2 has 1000001 characters in column 'text'; 1000000 are"),
        ("text,label\na,x\n ,y\n", "row 2 has no text in column 'text'. Fill the cell in, or leave the row out."),
        ("text,label\na,x\nb,\n", "row 2 has no label in column 'label'. Fill the cell in, or leave the row out."),
        ("text,lable\na,x\n", "unknown column 'label'. Did you mean 'lable'? Allowed: lable, text."),
        ("text,text,label\na,b,x\n", "the header names the column 'text' twice"),
        ("one,two,label\na,b,x\n", "which column is the text? It has one, two, label. Name one or two of them"),
        ("a.b,label\na,x\n", "the column 'a.b' cannot stand in a template."),
        ("text,label\none,x\ntwo,x\nthree,y\n", "there is one row alone of the label y: it cannot be"),
        ("text,label\na,x\nA,y\n" + "c,x\nd,x\ne,x\nf,x\ng,x\nh,x\n", "no training row labelled y is left"),
    ],
)
def test_bad_files_are_refused_by_name_row_and_column(
    tmp_path: Path, write: Write, content: str | bytes, message: str
) -> None:
    path = write("train.csv", content)
    assert refusal(tmp_path).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "trian.csv"}, "trian.csv: there is no such file. That folder holds train.csv."),
        ({"train": "none/train.csv"}, "train.csv: there is no such file. That folder holds no data file."),
        ({"train": "train.xlsx"}, "unknown kind of file '.xlsx'. Allowed: .csv, .tsv, .jsonl, .parquet."),
        ({"text": "texts"}, "unknown column 'texts'. Did you mean 'text'? Allowed: label, text."),
        ({"text": ["text", "text"]}, "Name one or two columns, none twice, not the label's."),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'. Did you mean 'accuracy'?"),
        ({"metric": "ece"}, "unknown metric 'ece'. Allowed: accuracy, macro_f1, mcc."),
        (
            {"tests": {"other": "test.csv"}},
            "row 2, column 'label': unknown label 'god'. Did you mean 'good'?",
        ),
        (
            {"tests": {"train": "test.csv"}},
            "tests: a test set is named 'train'. Give it another name, such as in_domain",
        ),
        ({"tests": {" ": "test.csv"}}, "tests: a test set is named ' '."),
        ({"tests": {"In-domain": "test.csv"}}, "is named 'In-domain'. Rows in domain are named 'in_domain'."),
        ({"tests": {"other": "columns.csv"}}, "columns.csv: row 1: unknown column 'text'. Did you mean 'texts'?"),
    ],
)
def test_bad_settings_say_what_is_allowed(
    tmp_path: Path, write: Write, settings: dict[str, object], message: str
) -> None:
    write("train.csv", TRAIN)
    write("test.csv", "text,label\nfresh,good\nfresher,god\n")
    write("columns.csv", "texts,label\nfresh,good\n")
    (tmp_path / "test.csv").rename(tmp_path / "tests.csv") if "train" in settings else None
    if settings.get("train") == "trian.csv":
        for name in ("tests.csv", "columns.csv"):
            (tmp_path / name).unlink()
    assert message in refusal(tmp_path, **settings)


def test_quotes_that_join_two_rows_of_a_tsv_are_refused(tmp_path: Path, write: Write) -> None:
    path = write("train.tsv", 'text\tlabel\n"I will go.\tneg\nAnd never return."\tpos\nWell.\tneg\n')
    told = refusal(tmp_path, train="train.tsv")
    assert told.startswith(f"{path}: a cell that ends in line 3 begins with a double quote and holds a tab")
    write("train.tsv", "text\tlabel\n" + '"two\nlines"\tneg\n"a\ttab"\tpos\n' * 2 + "other\tneg\nmore\tpos\n")
    assert {"two\nlines", "a\ttab"} <= {row.fields["text"] for row in read(tmp_path, train="train.tsv").train}


def test_null_labels_in_json_and_parquet_are_refused_alike(tmp_path: Path, write: Write) -> None:
    write("train.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": null}\n')
    pl.DataFrame({"text": ["a", "b"], "label": ["x", None]}).write_parquet(tmp_path / "train.parquet")
    for name in ("train.jsonl", "train.parquet"):
        assert f"{name}: row 2 has no label in column 'label'" in refusal(tmp_path, train=name)


def test_a_column_missing_in_a_later_json_row_is_named(tmp_path: Path, write: Write) -> None:
    write("train.jsonl", '{"text": "a", "label": "x"}\n{"txt": "b", "label": "y"}\n')
    assert "row 2: unknown column 'text'. Did you mean 'txt'?" in refusal(tmp_path, train="train.jsonl")


def test_columns_of_json_rows_are_those_of_all_rows(tmp_path: Path, write: Write) -> None:
    rows = [f'{{"text": "row {i}", "source": "{"mail" if i % 2 else "web"}", "label": "{i % 3}"}}' for i in range(9)]
    write("train.jsonl", "\n".join(['{"text": "a", "source": "mail"}', *rows]))
    assert "row 1: unknown column 'label'" in refusal(tmp_path, train="train.jsonl"), "source is no label"


def test_what_some_json_rows_alone_have_is_neither_text_nor_label(tmp_path: Path, write: Write) -> None:
    rows = [f'{{"review": "row {i}", "spam": "{"spam" if i % 2 else "ham"}"}}' for i in range(8)]
    write("train.jsonl", "\n".join([*rows, '{"review": "one more", "spam": "ham", "note": "mine"}']))
    task = read(tmp_path, train="train.jsonl")
    assert task.fields == ("review",) and task.labels == ("ham", "spam"), "which is no line of cells, but a name"
    sparse = [f'{{"review": "more {i}", "spam": "ham", "kind": "{"ab"[i % 2]}"}}' for i in range(4)]
    write("train.jsonl", "\n".join([*rows, *sparse]))
    assert "These repeat values: 'spam' (2 values), 'kind' (2 values)" in refusal(tmp_path, train="train.jsonl")


def test_a_folder_and_a_pipe_are_called_that(tmp_path: Path) -> None:
    (tmp_path / "train.csv").mkdir()
    assert "train.csv: that is a folder. Name a file in it." in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe.csv: that is no file, but a pipe or a device." in refusal(tmp_path, train="pipe.csv")


def test_a_list_in_a_cell_is_refused(tmp_path: Path, write: Write) -> None:
    write("train.jsonl", '{"text": ["a"], "label": "x"}\n')
    assert "train.jsonl: row 1 holds a list in column 'text'." in refusal(tmp_path, train="train.jsonl")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, write: Write) -> None:
    write("train.parquet", "not parquet")
    assert "train.parquet: cannot be read as Parquet" in refusal(tmp_path, train="train.parquet")


@pytest.mark.parametrize(
    ("template", "words", "message"),
    [
        ("No field:", (" a", " b"), "names no text field. Put at least one in braces: {text}."),
        ("{texts}:", (" a", " b"), "unknown text field 'texts'. Did you mean 'text'? Allowed: text."),
        ("{text", (" a", " b"), "Write a text field as {name}"),
        ("{text!r}", (" a", " b"), "with nothing else in the braces"),
        ("{}", (" a", " b"), "with nothing else in the braces"),
        ("{text}: ", (" a", " b"), "its template ends in a space"),
        ("{text}:", (" a",), "1 label words for 2 labels. Give one for each, in this order: bad, good."),
        ("{text}:", (" a", " a"), "the label word ' a' stands for two labels"),
        ("{text}:", (" a", " ab"), "the label word ' a' begins the label word ' ab'"),
        ("{text}:", (" a", " "), "a label word is empty"),
        ("{text}:", (" a", "b"), "some label words begin with a space and some do not"),
    ],
)
def test_bad_patterns_are_refused(
    tmp_path: Path, write: Write, template: str, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        check_pattern(Pattern("p", template, words), ("text",), ("bad", "good"))
    assert message in str(caught.value)
    write("train.csv", TRAIN)
    assert message in refusal(tmp_path, patterns=[{"name": "p", "template": template, "label_words": words}])


def test_label_words_by_unknown_or_missing_labels_are_refused(tmp_path: Path, write: Write) -> None:
    write("train.csv", TRAIN)
    pattern = {"name": "p", "template": "{text}:", "label_words": {"good": " a", "bda": " b"}}
    assert "unknown label 'bda'. Did you mean 'bad'?" in refusal(tmp_path, patterns=[pattern])
    pattern["label_words"] = {"good": " a"}
    assert "label_words lacks bad. Give a word for each label." in refusal(tmp_path, patterns=[pattern])
