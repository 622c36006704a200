"""`fewtune predict` on files of any kind and length: in order, columns carried through, faults by their row."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import fewtune
from command_line import call
from fewtune.cli.predict import _name_columns
from fewtune.data import parquet
from fewtune.data.row_files import open_rows, read_rows
from fewtune.errors import DataError
from fewtune.predictors.answers import MOST_CHARACTERS, answer_rows, split_windows
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.rows import TextRow, open_texts

WORDS = ("late", "broken", "lovely")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    texts = [f"it was {word}, order {i}" for i in range(6) for word in WORDS]
    return fewtune.fit([{"review": text} for text in texts], list(WORDS) * 6, "tfidf")


@pytest.fixture(scope="module")
def saved(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    predictor.save(folder)
    return folder


def make_rows(count: int) -> pl.DataFrame:
    texts = [f"order {i}: {WORDS[i % 3]} \u00e9\U0001f4e6, {'long ' * (i % 40)}" for i in range(count)]
    return pl.DataFrame({"id": range(count), "review": texts, "day": [date(2026, 1, 1 + i % 28) for i in range(count)]})


def answers(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fewtune.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("command", ["predict", "evaluate", "fit"])
def test_a_key_that_an_object_has_twice_is_refused_with_its_line_and_name(
    command: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"review": f"it was {word}, {i}", "label": word}) for i in range(4) for word in WORDS]
    rows[4:4] = ["", '{"review": "it was late", "label": "late", "review": "it was lovely"}']
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    if command == "fit":
        code = call("fit", path, "--method", "tfidf", "--save", tmp_path / "model")
    else:
        code = call(command, saved, path)
    told = " ".join(capsys.readouterr().err.split())
    assert code == 2 and f"{path}: line 6 has the key 'review' twice in one object" in told


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_is_answered_in_order_with_columns_in_front(
    saved: Path, predictor: Predictor, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, path = make_rows(1200), tmp_path / f"rows.{kind}"
    {
        "csv": lambda: frame.write_csv(path),
        "tsv": lambda: frame.write_csv(path, separator="\t"),
        "jsonl": lambda: frame.write_ndjson(path),
        "parquet": lambda: frame.write_parquet(path, row_group_size=500),
    }[kind]()
    assert call("predict", saved, path, "--keep", "id", "--keep", "day") == 0
    header, *rows = answers(capsys.readouterr().out)
    assert header == ["id", "day", "label", *(f"probability of {label}" for label in sorted(WORDS))]
    assert [row[0] for row in rows] == list(map(str, range(1200))) and rows[30][1] == "2026-01-03"
    assert [row[2] for row in rows] == [WORDS[i % 3] for i in range(1200)]
    whole = predictor.predict_probabilities([{"review": text} for text in frame["review"]])
    assert np.allclose([[float(cell) for cell in row[3:]] for row in rows], whole, atol=1e-6)


def test_an_answers_column_gives_way_to_a_kept_one_of_its_name(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("label;review\n late;so lovely\n")
    assert call("predict", saved, tmp_path / "rows.csv", "--keep", "label") == 0
    header, row = answers(capsys.readouterr().out)
    assert header[:3] == ["label", "predicted label", "probability of broken"]
    names = _name_columns(["label", "predicted label"], ["a"])
    assert names == ["label", "predicted label", "predicted predicted label", "probability of a"]
    assert row[:2] == [" late", "lovely"], "a kept cell stands as it is"


def test_a_kept_cell_with_a_lone_return_is_read_again_as_it_was(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"review": "so\rlovely"}) + "\n")
    assert call("predict", saved, tmp_path / "rows.jsonl", "--keep", "review", "--out", tmp_path / "a.csv") == 0
    _, row = answers((tmp_path / "a.csv").read_bytes().decode())
    assert row[:2] == ["so\rlovely", "lovely"]
    capsys.readouterr()
    assert call("predict", saved, tmp_path / "a.csv") == 0
    assert answers(capsys.readouterr().out)[1][0] == "lovely"


def test_a_fault_is_told_by_its_row_and_what_stands_before_it_is_answered(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "answers.csv"
    path.write_text("review\n" + "so lovely\n" * 100 + '""\nso late\n')
    assert call("predict", saved, path) == 2
    told = capsys.readouterr()
    assert len(answers(told.out)) == 101
    assert f"{path}: row 101 is empty in column 'review'. Fill the cell in" in " ".join(told.err.split())
    assert call("predict", saved, path, "--out", out) == 2
    assert list(tmp_path.iterdir()) == [path], "a file of answers is there whole or not at all"
    monkeypatch.setattr(Predictor, "log_probabilities", lambda *given: pytest.fail("hours of answers would be lost"))
    assert call("predict", saved, path, "--out", out) == 2


def test_a_file_that_is_there_is_not_written_over(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review\nso lovely\n")
    assert call("predict", saved, path, "--out", path) == 2
    assert "exists: give --out a new file" in capsys.readouterr().err
    assert path.read_text() == "review\nso lovely\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("rows.csv", "--keep", "idd"),
            "unknown column 'idd'. Did you mean 'id'? Allowed: id, review. Name each column",
        ),
        (("rows.csv", "--keep", "id", "--keep", "id"), "--keep names 'id' twice."),
        (
            ("other.csv",),
            "Did you mean 'reviews'? Allowed: reviews. The model reads review: name the file's columns so.",
        ),
        (("rows.csv", "--format", "xml"), "unknown format 'xml'. Allowed: csv, jsonl, parquet, tsv."),
        (("rows.csv", "--format", "parquet"), "cannot be read as Parquet"),
        (("-",), "the standard input is of no said format: give --format csv, tsv or jsonl, and Parquet as a file."),
        (("empty.csv",), "empty.csv: it is empty: it holds no rows. Give one that has some."),
        (("rows.jsonl",), "rows.jsonl: row 2: unknown column 'review'. Did you mean 'revue'?"),
    ],
)
def test_what_cannot_be_read_costs_one_message(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("id,review\n1,fine\n")
    Path("empty.csv").write_text("review\n")
    Path("other.csv").write_text("reviews\nfine\n")
    Path("rows.jsonl").write_text('{"review": "fine"}\n{"revue": "fine"}\n')
    assert call("predict", saved, *arguments) == 2
    assert message in " ".join(capfd.readouterr().err.split())


def test_the_standard_input_is_answered_before_it_ends(saved: Path) -> None:
    with start("predict", saved, "-", "--format", "jsonl", "--keep", "id", stdin=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        for i in range(3000):
            child.stdin.write(json.dumps({"id": i, "review": f"so lovely {i}"}).encode() + b"\n")
        child.stdin.flush()
        assert child.stdout.readline().startswith(b"id,label,") and child.stdout.readline().startswith(b"0,lovely,")
        child.stdin.close()
        assert child.stdout.read().count(b"\n") == 2999
    assert child.returncode == 0


def test_a_reader_that_goes_ends_the_command_without_a_word(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review\n" + "so lovely\n" * 5_000)
    with start("predict", saved, path) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_rows_are_read_only_as_they_are_answered(predictor: Predictor) -> None:
    read = 0

    def count() -> Iterator[TextRow]:
        nonlocal read
        for number in range(1, 100_001):
            read += 1
            yield TextRow(number, {"review": "so lovely"})

    windows = answer_rows(predictor, count())
    assert len(next(windows)) == 32 and read == 32, "first answers come soon"
    assert len(next(windows)) == 64 and read == 96


def test_long_texts_end_a_window_sooner() -> None:
    rows = [TextRow(number, {"review": "x" * (MOST_CHARACTERS // 2)}) for number in range(1, 6)]
    assert [len(window) for window in split_windows(iter(rows))] == [2, 2, 1]
    kept = [TextRow(number, {"review": "x"}, ("y" * MOST_CHARACTERS,)) for number in range(1, 4)]
    assert [len(window) for window in split_windows(iter(kept))] == [1, 1, 1], "columns that are kept are held too"


# Reading as a stream


def test_a_stream_of_parquet_gives_the_cells_that_reading_it_whole_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_ROWS", 7)
    path = tmp_path / "rows.parquet"
    pl.DataFrame(
        {
            "text": [f"row {i}" if i % 5 else None for i in range(30)],
            "kind": pl.Series(["a", "b", None] * 10, dtype=pl.Categorical),
            "level": pl.Series(["low", "high"] * 15, dtype=pl.Enum(["low", "high"])),
            "price": pl.Series([Decimal("1.50"), Decimal("20.25")] * 15),
            "share": [0.5, float("nan"), 2.0] * 10,
            "day": [date(2026, 1, 2)] * 30,
            "at": [datetime(2026, 1, 2, 3, 4, 5, 678901)] * 30,
            "nanoseconds": pl.Series([datetime(2026, 1, 2)] * 30, dtype=pl.Datetime("ns", "Europe/Paris")),
            "hour": [time(3, 4, 5)] * 30,
            "sound": [True, False, None] * 10,
            "many": pl.Series([2**64 - 1] * 30, dtype=pl.UInt64),
            "list": [[i] for i in range(30)],
        }
    ).write_parquet(path, row_group_size=10)
    whole = read_rows(path)
    with open_rows(path) as stream:
        assert (stream.columns, stream.unreadable) == (whole.columns, whole.unreadable)
        assert repr(list(stream.rows)) == repr(list(whole.rows))


def test_a_damaged_parquet_file_is_refused_before_its_first_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    make_rows(4000).write_parquet(path, row_group_size=1000)
    whole = path.read_bytes()
    path.write_bytes(whole[:50] + b"\xff" * (len(whole) // 2) + whole[len(whole) // 2 + 50 :])
    with pytest.raises(DataError, match="cannot be read as Parquet"), open_texts(path, ["review"]):
        pass


def test_bytes_that_are_no_text_are_told_by_their_line_after_the_rows_before_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"review\n" + b"so lovely\n" * 5000 + "caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 5002 is not UTF-8 \(byte 0xe9\)"), open_texts(path, ["review"]) as rows:
        read = 0
        for row in rows:
            read = row.number
    assert read > 4000


def test_an_open_quote_ends_the_reading_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('review\nfine\n"open\n' + ("x" * 999 + "\n") * 17_000)
    with (
        pytest.raises(DataError, match=r"row 2 \(line \d+\) cannot be read \(field larger"),
        open_texts(path, ["review"]) as rows,
    ):
        list(rows)


MEASURED = """
import re, sys
from pathlib import Path
from fewtune.cli.app import main
try:
    main(["predict", *sys.argv[1:]])
finally:
    print(*re.findall("VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()), file=sys.stderr)
"""
"""The command, and then the most memory that its process held; what `wait4` tells is no less than these tests' own."""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's own peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_rows(saved: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (3_000, 36_000):
        path = tmp_path / f"{count}.csv"
        path.write_text("review\n" + "so lovely if late by a day or so\n" * count)
        command = [sys.executable, "-c", MEASURED, str(saved), str(path)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
        peaks.append(int(done.stderr) * 1024)
    # Held whole, 33,000 more rows and their answers would take above 17 MB.
    assert peaks[1] - peaks[0] < 8 * 2**20


def test_rows_without_a_text_have_no_answer_where_asked(
    saved: Path, predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text("id,review\n1,it was late\n2,\n3,so lovely\n4,  \n")
    assert call("predict", saved, path, "--keep", "id", "--missing", "blank", "--out", out) == 0
    assert "2 rows without a text have no answer." in " ".join(capsys.readouterr().err.split())
    _, *rows = answers(out.read_text())
    assert [row[:2] for row in rows] == [["1", "late"], ["2", ""], ["3", "lovely"], ["4", ""]]
    assert rows[1][2:] == rows[3][2:] == [""] * 3
    expected = predictor.predict_probabilities(["it was late", "so lovely"])
    assert np.allclose(np.array([rows[0][2:], rows[2][2:]], dtype=float), expected, atol=1e-6)
    assert call("predict", saved, path, "--out", tmp_path / "none.csv") == 2
    assert "row 2 is empty in column 'review'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none.csv").exists()


def test_answers_are_not_written_under_another_formats_name(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("review\nso lovely\n")
    assert call("predict", saved, tmp_path / "rows.csv", "--out", tmp_path / "out.jsonl") == 2
    assert "answers are written as CSV. Name the file .csv." in " ".join(capsys.readouterr().err.split())
