"""Files as spreadsheets and colleagues write them: separators, encodings, columns found, labels that contradict."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.data.row_files import read_rows
from fewtune.errors import DataError
from fewtune.tasks.derived_pattern import derive_pattern
from own_rows import Write, read, refusal

ROWS = [
    (f'it said "{word}", order; {i} 📦', label) for i in range(6) for word, label in (("a|b", "late"), ("c", "lost"))
]


def spread(separator: str, ending: str = "\r\n", header: tuple[str, str] = ("review", "kind")) -> str:
    def quote(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if set(cell) & set('";|,\t') else cell

    return "".join(separator.join(map(quote, row)) + ending for row in [header, *ROWS])


# Separators and encodings


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_whatever_a_spreadsheet_separates_and_encodes_with_the_rows_are_the_same(
    tmp_path: Path, write: Write, separator: str, encoding: str
) -> None:
    write("train.csv", spread(separator).encode(encoding))
    task = read(tmp_path)
    assert [(row.fields["review"], task.labels[row.label or 0]) for row in task.train] == ROWS
    told = {",": "", ";": "semicolon", "\t": "tab", "|": "vertical bar"}[separator]
    [note] = [note for note in task.notes if note.startswith("Columns: text 'review', label 'kind'")]
    assert note.endswith(f"; cells separated by a {told}." if told else "label 'kind'.")


def test_excels_line_that_names_the_separator_is_no_header(tmp_path: Path, write: Write) -> None:
    path = write("train.csv", "sep=;\r\n" + spread(";"))
    assert read_rows(path).columns == ("review", "kind")
    write("train.csv", "sep=;\n\nreview;kind\n\na;b;c\n")
    assert "row 1 (line 5) has 3 cells" in refusal(tmp_path), "lines are counted as an editor counts them"


def test_a_sign_in_the_header_is_told_from_a_separator_by_the_first_row(tmp_path: Path, write: Write) -> None:
    write("train.csv", "text;more,label\none,x\n")
    assert read_rows(tmp_path / "train.csv").columns == ("text;more", "label")
    write("train.csv", '"text, whole";label\none, two, three;x\n')
    assert read_rows(tmp_path / "train.csv").columns == ("text, whole", "label")


def test_a_header_that_two_signs_split_is_refused_with_the_way_out(tmp_path: Path, write: Write) -> None:
    path = write("train.csv", "text;more,label\none;two,x\n")
    assert refusal(tmp_path) == (
        f"{path}: its cells could be separated by comma and by semicolon, for the header can be split by either. Put "
        "double quotes around a column's name that holds such a sign, or save the file with commas."
    )


def test_old_encodings_are_refused_with_the_byte_what_it_may_say_and_the_way_out(tmp_path: Path, write: Write) -> None:
    path = write("train.csv", "text,label\nfine,good\ncafé fermé,bad\n".encode("cp1252"))
    assert refusal(tmp_path) == (
        f"{path}: line 3 is not UTF-8 (byte 0xe9). Save the file as UTF-8. In Windows-1252 (Latin-1) that line reads "
        "'café fermé,bad'. In Excel choose the file type 'CSV UTF-8 (Comma delimited)', in LibreOffice the character "
        "set UTF-8."
    )
    write("train.csv", "text,label\nfine,good\n".encode("utf-16")[:-1])
    assert "line 2 is not UTF-16, as the file's first bytes say." in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rows.xlsx", "That is a workbook: save the sheet as a file, in Excel as 'CSV UTF-8 (Comma delimited)'"),
        ("rows.txt", "Name it .csv where it holds cells with a separator, .tsv where that is a tab."),
        ("rows.json", "Write one object a line and name it .jsonl."),
    ],
)
def test_kinds_of_file_that_are_not_read_are_refused_with_the_way_out(tmp_path: Path, name: str, remedy: str) -> None:
    told = refusal(tmp_path, train=name)
    assert "Allowed: .csv, .tsv, .jsonl, .parquet." in told and remedy in told


def test_columns_without_a_name_are_told_by_their_places(tmp_path: Path, write: Write) -> None:
    write("train.csv", "text;label;;\na;b;;\n")
    assert "the header names no column in places 3, 4. Name those columns or delete them." in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        'review, kind\n%, late\n"# one, two", lost\n',
        'kind,review\nlate, %\nlost, "# one, two"\n',
        'review,kind\n"%", "late"\n"# one, two", "lost"\n',
    ],
    ids=["behind", "before a quote", "quoted"],
)
def test_a_space_behind_each_separator_is_no_part_of_a_cell(tmp_path: Path, write: Write, content: str) -> None:
    header, *rows = content.splitlines()
    lines = [row.replace("%", f"so {i}").replace("#", f"no {i}") for i in range(6) for row in rows]
    write("train.csv", "\n".join([header, *lines]) + "\n")
    task = read(tmp_path)
    assert task.fields == ("review",) and task.labels == ("late", "lost")
    assert {row.fields["review"] for row in task.train} >= {"so 0", "no 0 one, two"}


@pytest.mark.parametrize(
    ("content", "cells"),
    [
        ('id,text,label\n  1,"He said, ""hello"" to me",pos\n', "  1"),
        ('id,text,label\n  1, "Great" movie,pos\n', "  1"),
        ('id\n"one, two"\n  three\n', "one, two"),
        ('id,text\n  1, "x" \n', "  1"),
    ],
)
def test_spaces_and_quotes_within_cells_are_no_spaces_behind_separators(
    tmp_path: Path, write: Write, content: str, cells: str
) -> None:
    rows = read_rows(write("train.csv", content)).rows
    assert rows[0]["id"] == cells and (len(rows) == 1 or rows[1]["id"] == "  three")


def test_a_line_of_many_spaces_is_looked_at_once(tmp_path: Path, write: Write) -> None:
    cells = ",   ".join(map(str, range(200)))
    path = write("train.csv", f"{cells},x\n{cells},y\n")  # one way to part the spaces from the cells, not 3 ** 200
    assert read_rows(path).rows[0]["x"] == "y"


def test_a_quoted_cell_of_several_lines_may_stand_behind_a_space(tmp_path: Path, write: Write) -> None:
    assert read_rows(write("train.csv", 'label,text\nx, "two\nlines"\n')).rows[0]["text"] == "two\nlines"


def test_spaces_inside_of_a_file_that_has_none_behind_its_separators_stay(tmp_path: Path, write: Write) -> None:
    path = write("train.csv", "text,label\nso good,x\n  indented,y\n")
    assert [row["text"] for row in read_rows(path).rows] == ["so good", "  indented"]


def test_a_file_without_a_header_is_refused_unless_its_label_column_is_named(tmp_path: Path, write: Write) -> None:
    path = write("train.csv", "so good,lovely\n" + table("x,lovely", "row #", "%").split("\n", 1)[1] + "a,lovely\n")
    told = refusal(tmp_path)
    assert told.startswith(f"{path}: its first line looks like a row, for 'lovely' stands there and in 1 more")
    with pytest.raises(DataError, match="there is one row alone of the label lovely"):
        read(tmp_path, label="lovely")


def test_a_text_column_without_a_name_is_told(tmp_path: Path, write: Write) -> None:
    write("train.csv", table(",label", "row #", "%"))
    assert "the column of texts has no name in the header. Give it one." in refusal(tmp_path)


def test_suffixes_in_capitals_are_read(tmp_path: Path, write: Write) -> None:
    write("TRAIN.CSV", spread(";"))
    assert len(read(tmp_path, train="TRAIN.CSV").train) == len(ROWS)


# Columns


def table(header: str, *cells: str, times: int = 6) -> str:
    lines = [",".join(cells).replace("#", str(i)).replace("%", "xy"[i % 2]) for i in range(times)]
    return "\n".join([header, *lines]) + "\n"


@pytest.mark.parametrize(
    ("content", "settings", "texts", "label"),
    [
        (table("kind,review", "%", "row #"), {}, ("review",), "kind"),
        (table("id,message,team", "#", "row #", "%"), {"text": "message"}, ("message",), "team"),
        (table("id,text,team", "#", "row #", "%"), {}, ("text",), "team"),
        (table("kind,label", "row #", "%"), {}, ("kind",), "label"),
        (table("score,text,label", "#", "#", "%"), {}, ("text",), "label"),
    ],
)
def test_columns_are_found_where_one_choice_is_sensible(
    tmp_path: Path, write: Write, content: str, settings: dict[str, object], texts: tuple[str, ...], label: str
) -> None:
    write("train.csv", content)
    task = read(tmp_path, **settings)
    assert task.fields == texts and task.labels == ("x", "y")
    assert f"label {label!r}." in task.notes[0]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (table("a,b", "%", "%"), {}, "which column is the label? These repeat values: 'a' (2 values), 'b' (2 values)."),
        (table("review,kind,stars", "row #", "%", "%"), {"text": "review"}, "which column is the label?"),
        (
            table("text", "row #"),
            {},
            "unknown column 'label'. Allowed: text. Name the label column in `label`; where no",
        ),
        (
            table("date,text,remark", "d%", "row #", "same %%"),
            {},
            "These repeat values: 'date' (2 values), 'remark' (2",
        ),
        (table("day,body,team", "d#", "row #", "%"), {}, "which column is the text? It has day, body, team."),
        (
            table("stars,label", "#", "%"),
            {},
            "column 'stars' is the only one beside the labels in 'label' and holds num",
        ),
    ],
)
def test_where_several_are_sensible_the_user_is_asked(
    tmp_path: Path, write: Write, content: str, settings: dict[str, object], message: str
) -> None:
    write("train.csv", content)
    assert message in refusal(tmp_path, **settings)


def test_numbers_are_texts_where_they_are_named_so(tmp_path: Path, write: Write) -> None:
    write("train.csv", table("stars,label", "#", "%"))
    assert read(tmp_path, text="stars").fields == ("stars",)


# Contradictions

OPPOSED = table("text,label", "row #", "%") + "one text,x\nOne text!,y\nother,x\nother,x\nother,y\n"


def test_contradictory_rows_are_counted_and_the_first_are_told(tmp_path: Path, write: Write) -> None:
    write("train.csv", OPPOSED)
    task = read(tmp_path)
    assert len(task.train) == 6
    assert (
        "5 rows of 2 texts carry different labels: rows 7 (x) and 8 (y), rows 9 (x) and 10 (x) and 11 (y). "
        "`--conflicts refuse`, in a study `conflicts: refuse`, stops at such rows."
    ) in task.notes


def test_contradictory_rows_are_refused_where_that_is_asked(tmp_path: Path, write: Write) -> None:
    path = write("train.csv", OPPOSED)
    assert refusal(tmp_path, conflicts="refuse").startswith(f"{path}: 5 rows of 2 texts carry different labels: rows 7")


def test_contradictory_test_rows_are_told_and_stay_or_are_refused(tmp_path: Path, write: Write) -> None:
    write("train.csv", table("text,label", "row #", "%"))
    path = write("test.csv", "text,label\nnew,x\nNew,y\nother,x\n")
    task = read(tmp_path, tests={"in_domain": "test.csv"})
    assert len(task.test_sets[0].rows) == 3
    said = f"{path}: 2 rows of one text carry different labels: rows 1 (x) and 2 (y). They are tested on:"
    assert any(note.startswith(said) for note in task.notes)
    assert "Correct their labels" in refusal(tmp_path, tests={"in_domain": "test.csv"}, conflicts="refuse")


# Spellings


@pytest.mark.parametrize("pair", [("late", "Late"), ("1", "1.0"), ("caf\u00e9", "cafe\u0301"), ("a b", "a\u00a0b")])
def test_labels_that_differ_in_spelling_alone_are_told(tmp_path: Path, write: Write, pair: tuple[str, str]) -> None:
    rows = [f"row {i},{(*pair, 'other')[i % 3]}" for i in range(12)]
    write("train.csv", "\n".join(["text,label", *rows]) + "\n")
    task = read(tmp_path)
    assert len(task.labels) == 3
    [note] = [note for note in task.notes if "spelling" in note]
    assert note.startswith(f"{pair[0]!r} (4 rows), {pair[1]!r} (4 rows) differ in spelling alone")


@pytest.mark.parametrize("pair", [("m2", "m\u00b2"), ("12345678901234567", "12345678901234568"), ("a", "b")])
def test_labels_that_are_others_are_not_told_for_alike(tmp_path: Path, write: Write, pair: tuple[str, str]) -> None:
    write("train.csv", "\n".join(["text,label", *(f"row {i},{pair[i % 2]}" for i in range(12))]) + "\n")
    assert not [note for note in read(tmp_path).notes if "spelling" in note]


def test_a_label_lost_to_another_spelling_of_it_is_told_so(tmp_path: Path, write: Write) -> None:
    rows = [f"row {i},{label}" for i in range(4) for label in ("Late", "late")]
    write("train.csv", "\n".join(["text,label", *rows, *(f"more {i},lost" for i in range(8))]) + "\n")
    assert "'Late', 'late' differ in spelling alone: where they are one label, spell it alike." in refusal(tmp_path)


# Label words

INTENTS = tuple(f"{verb} {noun}" for verb in ("cancel", "check", "change", "find") for noun in ("card", "card payment"))


def test_beyond_26_labels_names_of_which_one_begins_another_are_closed() -> None:
    labels = (*INTENTS, *(f"ask about topic {i}" for i in range(30)))
    words = derive_pattern(("text",), labels).label_words
    assert words[:2] == (" cancel card.", " cancel card payment.")
    assert not [(a, b) for a in words for b in words if a != b and b.startswith(a)]


@pytest.mark.parametrize("count", [27, 676, 677])
def test_beyond_26_labels_numbers_and_equal_names_get_codes_of_one_length(count: int) -> None:
    words = derive_pattern(("text",), tuple(map(str, range(count)))).label_words
    assert len(set(words)) == count and {len(word) for word in words} == {3 if count <= 676 else 4}
    assert words[0] == (" AA" if count <= 676 else " AAA")
    equal = ("a_b", "a b", *(f"topic {i}" for i in range(30)))
    assert derive_pattern(("text",), equal).label_words[:2] == (" AA", " AB")


def test_the_note_says_what_label_words_were_derived_and_why(tmp_path: Path, write: Write) -> None:
    names = ["card", "card payment", *(f"topic {i}" for i in range(30))]
    write("train.csv", "text,label\n" + "".join(f"row {i} on {name},{name}\n" for name in names for i in range(2)))
    [note] = [note for note in read(tmp_path).notes if note.startswith("Pattern derived")]
    assert "card = ' card.'" in note and "Each ends in a full stop, for some names begin others." in note
    write("train.csv", "text,label\n" + "".join(f"row {i},{i % 40}\n" for i in range(80)))
    [note] = [note for note in read(tmp_path).notes if note.startswith("Pattern derived")]
    assert "0 = ' AA'" in note and "They stand in for numbers." in note
