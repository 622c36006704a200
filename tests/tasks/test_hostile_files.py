"""Files that are damaged, absurd or meant ill: each costs one message, never the process, and no silent guess."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewtune.data import parquet
from fewtune.errors import DataError
from fewtune.tasks.label_column import order_labels
from fewtune.tasks.patterns import check_label_words
from own_rows import Write, read, refusal

PANICKING = base64.b64decode(
    "UEFSMRUEFT4VUEwVBhUAAAAfKAcAAABvbmUgcm93AQs8dHdvIHJvdwUAAAB0aHJlZRUAFRQVGCwVBhUQFQYVBgAACiQCAAAABgECAyQApwwZNQAGEBkY"
    "BHRleHQVAhYGFo4BFpQBJmImCAAVBBUUFRhMFQQVAAAACiQBAAAAYQEAAABiFQAVEhUWLBUGFRAVBhUGAAAJIAIAAAAGAfADAhUMGTUABhAZGAVsYWJl"
    "bBUCFgYWYhZqJogCJtYBABkcFmIVOhYAAAAZHBaIAhU4FgAAABUCGTxIBHJvb3QVBAAVDCUCGAR0ZXh0JQBMHAAAABUMJQIYBWxhYmVsJQBMHAAAABYG"
    "GRwZLCb2ARwVDBk1AAYQGRgEdGV4dBUCFgYWjgEWlAEmYiYIABb8AhUUACbyAhwVDBk1AAYQGRgFbGFiZWwVAhYGFmIWaiaIAibWAQAWkAMVFgAW8AEW"
    "BiYIFv4BFAAAGRwYDEFSUk9XOnNjaGVtYRjYAS8vLy8vNWtBQUFBRUFBQUE4di8vL3hRQUFBQUVBQUVBQUFBS0FBc0FDQUFLQUFRQStQLy8vd3dBQUFB"
    "SUFBZ0FBQUFFQUFJQUFBQXdBQUFBQkFBQUFNVC8vLzhZQUFBQUVBQUFBQWdBQUFBQkZBQUFBQUFBQU1ULy8vOEZBQUFBYkdGaVpXd0FBM0RzLy8vL0xB"
    "QUFBQ0FBQUFBWUFBQUFBUlFBQUJBQUVnQUVBQkFBRVFBSUFBQUFEQUFBQUFBQS9QLy8vd1FBQkFBRUFBQUFkR1Y0ZEFBPQAYTlBvbGFycyAocHl0aG9u"
    "KSB2ZXJzaW9uIDIuMS4wIChidWlsZCA3ZjkwMmJkM2ZmZDI3ZmY4MmQxNDI3OGEwOWEyOTVmZjJmN2FlZDkyKRksHAAAHAAAANcBAABQQVIx"
)
"""Three rows with some bytes changed: Polars 2.1 panics on them, which is no exception that `except Exception` sees."""


def rows_of(*labels: str, times: int = 12) -> str:
    return "text,label\n" + "".join(f"row {i} of {label},{label}\n" for label in labels for i in range(times))


# Labels


def test_labels_have_one_order_whatever_the_hash_seed() -> None:
    script = "from fewtune.tasks.label_column import order_labels; print(order_labels({labels}))"
    labels = {"2", "1", "1.0", "01", "nan", "NaN", "inf", "-inf", "1e999", "１", "b", "a", "-nan", "1_0"}
    orders = set()
    for seed in ("0", "1"):
        source = script.replace("{labels}", f"set({sorted(labels)!r})")
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, env=environment, check=True)
        orders.add(done.stdout)
    assert len(orders) == 1
    for _ in range(20):
        shuffled = random.sample(sorted(labels), len(labels))
        assert order_labels(shuffled) == order_labels(labels)


def test_ordinary_labels_keep_their_order() -> None:
    assert order_labels(["10", "9", "b", "-1", "a", "1.5"]) == ("-1", "1.5", "9", "10", "a", "b")


@pytest.mark.parametrize("missing", ["nan", "NaN", "NA", "n/a", "null", "None", "<NA>", "NaT", "-nan"])
def test_a_missing_label_beside_numbers_is_refused_by_its_row(tmp_path: Path, write: Write, missing: str) -> None:
    path = write("train.csv", "text,label\na,1\nb,2\nc,1\n" + f"d,{missing}\ne,2\n")
    told = refusal(tmp_path)
    assert told.startswith(f"{path}: row 4 holds {missing!r} in column 'label', beside numbers: a missing label?")
    assert "Fill it in, or leave the row out. Where it is a label, give it another name." in told


def test_the_same_label_beside_words_is_a_label_and_said_to_be(tmp_path: Path, write: Write) -> None:
    write("train.csv", rows_of("None", "favor", "against"))
    task = read(tmp_path)
    assert task.labels == ("None", "against", "favor")
    [note] = [note for note in task.notes if "is taken as a label" in note]
    assert note.startswith("Label 'None' (12 rows) is taken as a label of that name.")
    write("train.csv", rows_of("inf", "1", "2"))
    assert read(tmp_path).labels == ("1", "2", "inf")


def test_a_missing_label_of_a_test_file_is_called_one(tmp_path: Path, write: Write) -> None:
    write("train.csv", rows_of("1", "2"))
    write("test.csv", "text,label\nfresh,1\nfresher,nan\n")
    assert "row 2, column 'label': unknown label 'nan'." in refusal(tmp_path, tests={"in_domain": "test.csv"})
    assert "That is how a missing label is written" in refusal(tmp_path, tests={"in_domain": "test.csv"})


def test_contradictory_rows_are_called_that(tmp_path: Path, write: Write) -> None:
    write("train.csv", "text,label\n" + "same text,a\nsame text,b\n" * 3)
    assert "all 6 rows are left out, for every text carries different labels." in refusal(tmp_path)
    write("train.csv", "text,label\n" + "same text,a\nsame text,b\n" * 3 + "one,a\n")
    assert "no training row labelled b is left once repeated, contradictory" in refusal(tmp_path)


def test_a_label_of_thousands_of_characters_is_refused_and_cut(tmp_path: Path, write: Write) -> None:
    write("train.csv", rows_of("good", "bad") + "a text," + "x" * 20_000 + "\n")
    told = refusal(tmp_path)
    assert "row 25 has a label of 20000 characters in column 'label'" in told and "200 are allowed" in told
    assert len(told) < 500


def test_a_label_column_that_is_an_id_is_called_one_in_a_short_line(tmp_path: Path, write: Write) -> None:
    path = write("train.csv", "text,label\n" + "".join(f"row number {i},id-{i:05}\n" for i in range(900)))
    told = refusal(tmp_path)
    assert told.startswith(f"{path}: there is one row alone of the label id-") and " more: it cannot be fitted" in told
    assert "Column 'label' looks like an id: 900 different labels in 900 rows. Name the column of labels" in told
    assert len(told) < 1000
    write("train.csv", "text,label\n" + "".join(f"row number {i},id-{i:05}\n" for i in range(6000)))
    told = refusal(tmp_path)
    assert "column 'label' holds 6000 labels in 6000 rows (id-00000, id-00001," in told and "1000 are allowed" in told
    assert "looks like an id" in told and len(told) < 500


def test_one_row_a_label_is_no_id_where_the_test_rows_have_the_same(tmp_path: Path, write: Write) -> None:
    write("train.csv", "text,label\n" + "".join(f"row number {i},intent {i:03}\n" for i in range(150)))
    write("test.csv", "text,label\n" + "".join(f"other row {i},intent {i % 150:03}\n" for i in range(600)))
    assert len(read(tmp_path, tests={"in_domain": "test.csv"}).labels) == 150


def test_thousands_of_label_words_are_checked_without_comparing_each_with_each() -> None:
    class Counted(str):
        """A word that counts how often it is compared."""

        compared = 0

        def startswith(self, *given: object) -> bool:  # type: ignore[override]
            Counted.compared += 1
            return super().startswith(*given)  # type: ignore[arg-type]

    check_label_words([Counted(f" word {i:05}") for i in range(3000)], "pattern 'p'")
    assert Counted.compared < 10_000
    with pytest.raises(DataError, match="the label word ' word 1' begins the label word ' word 12'"):
        check_label_words([" word 3", " word 12", " other", " word 1"], "pattern 'p'")


# Texts


@pytest.mark.parametrize("column", ["text", "label"])
def test_half_a_character_is_refused_by_row_and_column(tmp_path: Path, write: Write, column: str) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    rows[1][column] += "\ud800"
    write("train.jsonl", "\n".join(map(json.dumps, rows)))
    told = refusal(tmp_path, train="train.jsonl")
    assert f"train.jsonl: row 2 holds half a character in column {column!r}" in told


def test_half_a_character_in_a_column_name_is_told_in_words_that_print(tmp_path: Path, write: Write) -> None:
    write("train.jsonl", json.dumps({"text\ud800": "a", "label": "x"}))
    told = refusal(tmp_path, train="train.jsonl")
    assert r"the column 'text\ud800' cannot stand in a template" in told and told.encode()
    assert refusal(tmp_path, train="train.jsonl", text="texts").encode()


def test_a_nul_character_is_read_where_a_text_may_hold_it(tmp_path: Path, write: Write) -> None:
    rows = [{"text": f"row\0 number {i}", "label": "xy"[i % 2]} for i in range(30)]
    write("train.jsonl", "\n".join(map(json.dumps, rows)))
    assert any("\0" in row.fields["text"] for row in read(tmp_path, train="train.jsonl").train)
    write("train.csv", "text,label\n".encode("utf-16-le"))
    assert "line 1 holds a NUL character: it is no text in UTF-8. Save the file as UTF-8." in refusal(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 2 holds lists or objects too deep in one another"),
        ('{"text": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001, "line 2 holds lists or objects too deep"),
        ('{"text": ' + "9" * 5000 + "}", "line 2 holds a number of thousands of digits. Write it as text."),
    ],
)
def test_json_that_is_too_deep_or_too_long_is_refused_by_its_line(
    tmp_path: Path, write: Write, line: str, message: str
) -> None:
    write("train.jsonl", '{"text": "a", "label": "x"}\n' + line)
    assert message in refusal(tmp_path, train="train.jsonl")


def test_a_path_too_long_for_the_system_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (File name too long)" in refusal(tmp_path, train="x" * 5000 + ".csv")


# Parquet


def test_a_binary_column_is_refused_and_decoding_shown(tmp_path: Path) -> None:
    texts = [f"row number {i}".encode() for i in range(30)]
    labels = ["bad" if i % 2 else "good" for i in range(30)]
    frame = pl.DataFrame({"text": texts, "label": labels})
    frame.write_parquet(tmp_path / "train.parquet")
    told = refusal(tmp_path, train="train.parquet")
    assert "train.parquet: holds bytes in column 'text', not text. Decode it" in told
    assert 'frame.with_columns(pl.col("text").cast(pl.String))' in told
    frame.with_columns(pl.col("text").cast(pl.String)).write_parquet(tmp_path / "train.parquet")
    assert len(read(tmp_path, train="train.parquet").train) > 10
    pl.DataFrame({"text": labels, "label": texts}).write_parquet(tmp_path / "train.parquet")
    assert "holds bytes in column 'label', not text." in refusal(tmp_path, train="train.parquet")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (pl.Series([timedelta(seconds=i) for i in range(30)]), "durations"),
        (pl.Series([[i] for i in range(30)]), "lists or nested objects"),
        (pl.Series([{"a": i} for i in range(30)]), "lists or nested objects"),
    ],
)
def test_columns_that_hold_no_texts_are_refused_where_they_are_used(
    tmp_path: Path, values: pl.Series, what: str
) -> None:
    frame = pl.DataFrame({"text": [f"row {i}" for i in range(30)], "other": values, "label": ["a", "b"] * 15})
    frame.write_parquet(tmp_path / "train.parquet")
    assert f"holds {what} in column 'other'." in refusal(tmp_path, train="train.parquet", text="other")
    assert len(read(tmp_path, train="train.parquet").train) > 10, "a column that nobody asks for may hold anything"


def test_dates_decimals_and_categories_are_read_as_text(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": [date(2024, 1, 1) + timedelta(days=i) for i in range(30)],
            "label": pl.Series([Decimal("1.50"), Decimal("2.50")] * 15),
            "kind": pl.Series(["a", "b"] * 15, dtype=pl.Categorical),
        }
    )
    frame.write_parquet(tmp_path / "train.parquet")
    task = read(tmp_path, train="train.parquet")
    assert task.labels == ("1.50", "2.50") and task.train[0].fields["text"].startswith("2024-01-")
    assert read(tmp_path, train="train.parquet", label="kind", text="text").labels == ("a", "b")


def test_a_file_that_the_reader_panics_on_is_refused(tmp_path: Path, write: Write) -> None:
    path = write("train.parquet", PANICKING)
    assert refusal(tmp_path, train="train.parquet").startswith(f"{path}: cannot be read as Parquet (")


def test_a_reader_that_ends_its_process_costs_a_message(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("train.parquet", PANICKING)
    ending = write("python", "#!/bin/sh\nkill -ABRT $$\n")
    ending.chmod(0o755)
    monkeypatch.setattr(parquet.sys, "executable", str(ending))
    assert "cannot be read as Parquet (the reader was ended by SIGABRT)" in refusal(tmp_path, train="train.parquet")


def test_damaged_parquet_is_read_or_refused_wherever_its_bytes_are_changed(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pl.DataFrame({"text": [f"row {i}" for i in range(40)], "label": ["a", "b"] * 20}).write_parquet(path)
    whole, rng = path.read_bytes(), random.Random(0)
    damaged = [b"", whole[:4], whole[: len(whole) // 2], whole[:-1]]
    for _ in range(6):
        changed = bytearray(whole)
        for _ in range(3):
            changed[rng.randrange(len(whole))] = rng.randrange(256)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            read(tmp_path, train="train.parquet")
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 4


def test_a_small_file_of_countless_equal_rows_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pl.select(text=pl.repeat("one text", 200_000), label=pl.repeat("a", 200_000)).write_parquet(path)
    assert path.stat().st_size < 100_000
    assert "train.parquet: it holds 200000 rows in " in refusal(tmp_path, train="train.parquet")
    pl.select(text=pl.repeat("long text " * 2000, 5_000), label=pl.repeat("a", 5_000)).write_parquet(path)
    assert "train.parquet: its texts have 100005000 bytes in " in refusal(tmp_path, train="train.parquet")


# Whatever bytes

_FUZZED = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_CELLS = st.text(max_size=6) | st.sampled_from(["nan", "1", "-1e999", "bad", '"', '""', "\r", "\0", "{text}", " "])


@_FUZZED
@given(rows=st.lists(st.lists(_CELLS, min_size=1, max_size=3), max_size=12), separator=st.sampled_from(",\t"))
def test_whatever_a_csv_file_holds_it_is_read_or_refused(tmp_path: Path, rows: list[list[str]], separator: str) -> None:
    body = "\n".join(separator.join(cells) for cells in [["text", "label"], *rows])
    name = "train.csv" if separator == "," else "train.tsv"
    (tmp_path / name).write_bytes(body.encode("utf-8", "surrogatepass"))
    read_or_refuse(tmp_path, name)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**300),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@_FUZZED
@given(rows=st.lists(st.fixed_dictionaries({"text": _VALUES, "label": _VALUES}) | _VALUES, max_size=12))
def test_whatever_a_json_file_holds_it_is_read_or_refused(tmp_path: Path, rows: list[object]) -> None:
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read_or_refuse(tmp_path, "train.jsonl")


def read_or_refuse(folder: Path, name: str) -> None:
    try:
        task = read(folder, train=name)
    except DataError as error:
        assert str(folder / name) in str(error)
        assert str(error).encode(), "what is said can be printed"
    else:
        assert {row.label for row in task.train} == set(range(len(task.labels)))
