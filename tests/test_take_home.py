"""Models of one labelled file beside what people make instead: samples, sums by hand, going on, and the page."""

from __future__ import annotations

import json
import os
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from benchmarks.take_home.__main__ import is_wanted, main
from benchmarks.take_home.cells import (
    RESULTS,
    Cell,
    Circumstances,
    list_cells,
    make_cell,
    measure_cells,
    name_failure,
    read_records,
)
from benchmarks.take_home.contenders import CONTENDERS, FOUR_FILES, find_contenders
from benchmarks.take_home.embedding import AT_ONCE, embed_file, list_texts, name_embeddings
from benchmarks.take_home.files import (
    FILES,
    TEST_ROWS,
    LabelledFile,
    Row,
    choose_sizes,
    draw_sample,
    keep_once,
    make_up_file,
    read_file,
    skew,
)
from benchmarks.take_home.ours import Stated, is_saved, read_stated, write_command
from benchmarks.take_home.page import (
    CHART,
    PAGE,
    README,
    TABLES,
    draw_page,
    write_page,
    write_readme,
    write_tables,
)
from benchmarks.take_home.peers import keep_embeddings
from benchmarks.take_home.scores import score_answers
from benchmarks.take_home.side import spread
from benchmarks.take_home.summary import (
    average_over_files,
    hold_stated,
    list_shortfalls,
    lose_to_hindsight,
    place_records,
    rank_contenders,
    subtract,
)
from benchmarks.take_home.watched import Cap, watch
from fewtune.errors import DataError

MACHINE = {"processor": "made-up", "threads": 2, "packages": {}}


def make_rows(counts: dict[str, int]) -> tuple[Row, ...]:
    return tuple(Row((f"{label} number {n}",), label) for label, count in counts.items() for n in range(count))


def make_record(file: str, contender: str, accuracy: float | None, rows: int = 32, sample: int = 0, **more: Any) -> Any:
    """A record of a model of this accuracy; of None, one that was capped."""
    record = {"file": file, "rows": rows, "sample": sample, "contender": contender, "rows_sha256": f"{file}{sample}"}
    record |= {"majority": 0.5, "busy": False, "machine": MACHINE, "ended": "capped" if accuracy is None else "done"}
    if accuracy is not None:
        figures = {"accuracy": accuracy, "macro_f1": accuracy / 2, "log_loss": 0.5}
        record |= figures | {"seconds": 10.0, "peak_bytes": 2**30, "latency_seconds": 0.01}
    return record | more


def test_rare_labels_are_as_rare_in_samples_as_in_their_file() -> None:
    file = LabelledFile("one-in-40", ("text",), make_rows({"common": 1950, "rare": 50}), (32, 200))
    files = [replace(file, name=f"one-in-40, {number}") for number in range(400)]
    rare = [Counter(row.label for row in draw_sample(file, 32, 0).train)["rare"] for file in files]
    # Of 32 rows .8 are rare on average, and two in five samples have none: one row a label, or any share that is kept,
    # would always have some.
    assert np.mean(rare) == pytest.approx(0.8, abs=0.15)
    assert np.mean([count == 0 for count in rare]) == pytest.approx(0.44, abs=0.08)


def test_no_text_is_in_a_sample_and_its_test_rows() -> None:
    file = LabelledFile("made-up", ("text",), make_rows({"a": 2000, "b": 600}), (32, 200, 1000))
    drawn = draw_sample(file, 200, 0)
    assert len(drawn.train) == 200 and len(drawn.test) == 600
    other = draw_sample(file, 1000, 1)
    assert other.test == drawn.test
    shown = [row.texts for row in (*drawn.train, *other.train, *drawn.test)]
    assert len(set(shown)) == len(shown) == 1800
    assert len(draw_sample(LabelledFile("x", ("text",), make_rows({"a": 3000}), (32,)), 32, 0).test) == TEST_ROWS


def test_samples_come_again_are_nested_and_differ_by_number() -> None:
    file = LabelledFile("made-up", ("text",), make_rows({"a": 300, "b": 300}), (32, 200))
    assert draw_sample(file, 32, 1) == draw_sample(file, 32, 1)
    small, large = draw_sample(file, 32, 1), draw_sample(file, 200, 1)
    assert large.train[:32] == small.train and large.test == small.test
    assert draw_sample(file, 32, 0).fingerprint != small.fingerprint


def test_rows_are_twice_the_labels_where_labels_are_many() -> None:
    assert choose_sizes(2, large=False) == (32, 200)
    assert choose_sizes(77, large=False) == (154, 200)
    assert choose_sizes(150, large=True) == (300, 1000)


def test_a_skewed_copy_has_one_row_in_so_many_of_a_label() -> None:
    rows = skew(make_rows({"a": 180, "b": 180}), "b", 10)
    assert Counter(row.label for row in rows) == {"a": 180, "b": 20}
    assert rows == skew(make_rows({"a": 180, "b": 180}), "b", 10)
    with pytest.raises(ValueError, match="'b' has 5 rows, and 20 would be one in 10"):
        skew(make_rows({"a": 180, "b": 5}), "b", 10)


def test_a_text_is_kept_once_and_not_at_all_with_two_labels() -> None:
    rows = [Row((text,), label) for text, label in (("So it is.", "a"), ("so it is", "a"), ("No!", "a"), ("no", "b"))]
    assert keep_once(rows) == (rows[0],)


def test_missing_evaluation_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ag_news/train\.jsonl is not there.*--data-dir.*--files"):
        read_file("ag_news", tmp_path)
    with pytest.raises(SystemExit, match=r"ag_news/train\.jsonl is not there"):
        main(["--files", "ag_news", "--data-dir", str(tmp_path)])


def test_rows_of_one_label_and_pairs_are_read_as_users_have_them(tmp_path: Path) -> None:
    lines = [{"text": "hello  there", "labels": ["a_greeting"]}, {"text": "both", "labels": ["x", "y"]}]
    (tmp_path / "nlupp").mkdir()
    for name, content in (("banking", lines), ("hotels", [])):
        (tmp_path / "nlupp" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    assert read_file("nlupp", tmp_path).rows == (Row(("hello there",), "a greeting"),)
    (tmp_path / "qqp").mkdir()
    for name in ("train", "dev_from_train"):
        pair = {"question1": f"{name}?", "question2": "what?", "label": 1}
        (tmp_path / "qqp" / f"{name}.jsonl").write_text(json.dumps(pair) + "\n")
    pairs = read_file("qqp", tmp_path)
    assert pairs.fields == ("question1", "question2")
    assert pairs.rows[0] == Row(("train?", "what?"), "duplicate")


def test_answers_are_scored_with_labels_that_were_never_seen_and_none_at_all() -> None:
    seen = spread(np.array([[0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.5, 0.5]]), ["a", "c"], ["a", "b", "c"])
    gold, predicted = np.array([0, 2, 1, 0]), np.array([0, 2, 0, -1])
    found = score_answers(seen, predicted, gold)
    assert found["accuracy"] == 0.5
    # a: one right of two gold and two predicted; b: never predicted; c: right.
    assert found["macro_f1"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.6, 0.001, 0.5]).mean())


def test_the_unit_of_an_interval_is_the_file() -> None:
    found = average_over_files({"x": [0.0, 2.0], "y": [2.0], "z": [3.0]})
    # Means 1, 2 and 3: deviation 1, and 4.3027 / sqrt(3) is 2.4841.
    assert (found.mean, found.files, found.cells) == (2.0, 3, 4)
    assert (found.low, found.high) == (pytest.approx(-0.4841, abs=1e-4), pytest.approx(4.4841, abs=1e-4))
    assert np.isnan(average_over_files({"x": [1.0]}).low)
    assert average_over_files({}).files == 0


def test_ranks_are_shared_by_ties_and_last_without_a_model() -> None:
    names = ["tfidf-lr", "mpnet-lr", "setfit-mpnet", "fewtune-3m"]
    scores: dict[str, list[float | None]] = {"x": [0.5, 0.7, None, 0.7], "y": [0.9, 0.8, 0.7, 0.6]}
    records = [
        make_record(file, name, score) for file, each in scores.items() for name, score in zip(names, each, strict=True)
    ]
    records += [make_record("z", "tfidf-lr", 0.9)]  # where not all were run
    found = rank_contenders(place_records(records), names, "accuracy")
    assert [found[name].mean for name in names] == [2.0, 1.75, 3.5, 2.75]
    assert {mean.cells for mean in found.values()} == {2}
    losses = [make_record("x", name, 0.5, log_loss=loss) for name, loss in (("tfidf-lr", 0.4), ("mpnet-lr", 0.6))]
    by_loss = rank_contenders(place_records(losses), names[:2], "log_loss")
    assert [by_loss[name].mean for name in names[:2]] == [1.0, 2.0]


def test_differences_are_over_the_cells_that_both_made_a_model_of() -> None:
    records = [
        *(make_record("x", "fewtune-3m", score, sample=n) for n, score in enumerate((0.75, 0.5))),
        *(make_record("x", "mpnet-lr", score, sample=n) for n, score in enumerate((0.5, 0.5))),
        make_record("y", "fewtune-3m", 0.5),
        make_record("y", "mpnet-lr", 0.625),
        make_record("z", "fewtune-3m", 0.9),
        make_record("z", "mpnet-lr", None),
    ]
    found = subtract(place_records(records), "fewtune-3m", "mpnet-lr", "accuracy")
    assert (found.mean, found.files, found.cells) == (0.0, 2, 3)


def test_the_best_peer_is_that_of_the_mean_of_samples() -> None:
    records = [
        *(make_record("x", "fewtune-3m", score, sample=n) for n, score in enumerate((0.6, 0.8))),
        *(make_record("x", "mpnet-lr", score, sample=n) for n, score in enumerate((0.7, 0.72))),
        *(make_record("x", "tfidf-lr", score, sample=n) for n, score in enumerate((0.9, 0.4))),
        make_record("x", "setfit-mpnet", 0.99),  # of one sample alone
    ]
    [found] = list_shortfalls(place_records(records), "fewtune-3m", find_contenders("peers"), "accuracy")
    assert (found.peer, found.points) == ("mpnet-lr", pytest.approx(-1.0))


def test_cards_are_held_against_test_rows() -> None:
    def state(*bounds: float, metric: str = "accuracy") -> dict[str, Any]:
        scores = {"accuracy": bounds, "macro_f1": (0.5, 0.0, 1.0)}
        return {"chosen": "tfidf", "metric": metric, "scores": scores, "expected_loss": 0.01, "settled": True}

    singles = {"single-tfidf": 0.6, "single-pattern-smollm2-135m": 0.72}
    records = [
        make_record("x", "fewtune-3m", 0.7, stated=state(0.75, 0.65, 0.85)),
        make_record("x", "fewtune-3m", 0.7, sample=1, stated=state(0.75, 0.71, 0.85)),
        make_record("y", "fewtune-3m", 0.8, stated=state(0.75, 0.65, 0.85, metric="macro_f1")),
        make_record("z", "fewtune-3m", 0.8),
        *(make_record(file, name, score) for file in ("x", "y") for name, score in singles.items()),
    ]
    placed = place_records(records)
    kept = hold_stated(placed, "fewtune-3m", "accuracy")
    assert (kept.cells, kept.covered, kept.error.mean) == (3, 2, pytest.approx(0.0))
    assert hold_stated(placed, "fewtune-3m", "macro_f1").error.mean == pytest.approx((0.15 + 0.1) / 2)
    assert hold_stated(placed, "fewtune-fast", "accuracy").cells == 0
    realised, stated = lose_to_hindsight(placed, "fewtune-3m", find_contenders("hindsight"))
    # .72 - .7, and in macro F1 .36 - .4.
    assert (realised.mean, realised.cells, stated.mean) == (pytest.approx((0.02 - 0.04) / 2), 2, 0.01)


def test_records_of_other_rows_are_not_set_side_by_side() -> None:
    records = [make_record("x", "tfidf-lr", 0.5), make_record("x", "mpnet-lr", 0.5, rows_sha256="other")]
    with pytest.raises(ValueError, match="records are of different rows"):
        place_records(records)


def test_a_part_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    file, made = make_up_file(), list[Cell]()
    cells = list_cells([file], ["tfidf-lr", "mpnet-lr", "fewtune-10m"], 1)
    assert [(cell.rows, cell.contender) for cell in cells] == [
        (16, "tfidf-lr"), (16, "mpnet-lr"), (24, "tfidf-lr"), (24, "mpnet-lr")
    ]  # fmt: skip

    def make(cell: Cell, file: LabelledFile) -> Any:
        made.append(cell)
        ended = {"ended": "failed", "reason": "ValueError"} if cell == cells[1] else {}
        return make_record(cell.file, cell.contender, 0.5, cell.rows, cell.sample) | ended

    def run(times: int, again: str | None = None) -> int:
        until = len(made) + times
        return measure_cells(
            cells, {file.name: file}, tmp_path, lambda record: is_wanted(again, record), lambda: len(made) < until, make
        )

    assert run(3) == 1 and made == cells[:3]
    assert run(3) == 0 and made == cells
    assert run(3) == 0 and made == cells
    assert run(3, "failed") == 0 and made[4:] == [cells[1]]
    assert run(9, "all") == 0 and made[5:] == cells
    assert len(read_records(tmp_path)) == 4


def test_cells_beside_other_work_are_made_anew_when_asked() -> None:
    busy = make_record("x", "tfidf-lr", 0.5, busy=True)
    assert is_wanted("busy", busy) and not is_wanted(None, busy) and not is_wanted("failed", busy)
    assert is_wanted("failed", busy | {"ended": "not run"})


def test_ten_minutes_and_single_methods_are_for_four_files_at_200_rows() -> None:
    for name in ("fewtune-10m", *find_contenders("hindsight")):
        assert CONTENDERS[name].suits(FOUR_FILES[0], 200)
        assert not CONTENDERS[name].suits(FOUR_FILES[0], 32) and not CONTENDERS[name].suits("rte", 200)
    assert set(FOUR_FILES) <= set(FILES)
    assert all(CONTENDERS[name].suits("rte", 32) for name in find_contenders("peers"))


def test_a_cell_is_made_in_a_process_of_its_own_and_its_record_has_no_text() -> None:
    file = make_up_file()
    record = make_cell(Cell(file.name, 16, 1, "tfidf-lr"), file, Circumstances())
    assert record["ended"] == "done" and record["accuracy"] > record["majority"]
    assert record["seconds"] > 0 and record["peak_bytes"] > 2**20 and 0 < record["latency_seconds"] < record["seconds"]
    assert not record["busy"]
    assert (record["labels"], record["labels_seen"], record["test_rows"]) == (2, 2, 32)
    assert not any(row.texts[0] in json.dumps(record) for row in file.rows)


def test_what_cannot_be_run_here_is_recorded_with_its_reason() -> None:
    file = make_up_file()
    here = Circumstances(missing={"autointent": "not installed"})
    record = make_cell(Cell(file.name, 16, 0, "autointent-mpnet"), file, here)
    assert (record["ended"], record["reason"]) == ("not run", "not installed")
    assert place_records([record]) == {}
    told = name_failure("Traceback:\nsklearn.exceptions.SomeError: the text 'never tell' is short\n")
    assert told == "sklearn.exceptions.SomeError"
    assert name_failure("fewtune: row 3 is odd") == "the command refused, or ended without a word"


def test_a_capped_command_ends_with_all_that_it_began(tmp_path: Path) -> None:
    nested = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    )
    command = [sys.executable, "-c", f"{nested}; sys.stdout.flush(); import time; time.sleep(60)"]
    found = watch(command, tmp_path, Cap(4.0))
    assert found.ending == "capped" and found.peak_bytes > 0
    assert not psutil.pid_exists(int(found.output))


def test_a_watched_command_is_measured_until_its_model_is_there(tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    write = f"import json, time; json.dump({{'at': time.time()}}, open({str(made)!r}, 'w'))"
    began = time.time()
    found = watch([sys.executable, "-c", f"{write}; time.sleep(1)"], tmp_path, Cap(60.0), made)
    assert found.ending == "done"
    assert found.seconds < time.time() - began - 1
    assert watch([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, Cap(60.0)).ending == "failed"
    assert watch([sys.executable, "-c", f"{write}; raise SystemExit(3)"], tmp_path, Cap(60.0), made).ending == "failed"


def test_on_a_busy_machine_the_cap_counts_processor_time() -> None:
    assert Cap(10.0).is_passed(11.0, 0.0)
    assert not Cap(10.0, by_processor=True).is_passed(11.0, 0.0)
    assert Cap(10.0, by_processor=True).is_passed(1000.0, 1000.0 * (os.cpu_count() or 1))


def test_embeddings_of_test_rows_are_made_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def embed(texts: Any) -> np.ndarray:
        asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts])

    file = tmp_path / "kept" / "mpnet.npz"
    assert keep_embeddings(file, ["a", "bcd"], embed).tolist() == [[1, 1], [3, 1]]
    assert keep_embeddings(file, ["bcd", "ef", "a"], embed).tolist() == [[3, 1], [2, 1], [1, 1]]
    assert asked == ["a", "bcd", "ef"]
    texts, left = list_texts(make_up_file()), iter((True, False))
    assert len(texts) == 80 and len(list_texts(make_up_file(), 16)) == 64 and list_texts(make_up_file(), 15) == []
    assert embed_file(texts * 9, file, embed, lambda: next(left)) == 720 - AT_ONCE
    assert name_embeddings("minilm-l6", "sst2-1-in-10") == name_embeddings("minilm-l6", "sst2")


def test_fewtune_is_run_as_a_user_types_it_and_its_manifest_is_read(tmp_path: Path) -> None:
    command = write_command(("question1", "question2"), ("--budget", "3m"))
    assert command[3:] == [
        "fit", "train.csv", "--text", "question1", "--text", "question2", "--label", "label", "--save", "model",
        "--budget", "3m",
    ]  # fmt: skip
    assert not is_saved(tmp_path)
    choice: dict[str, Any] = {
        "chosen": "embeddings (mpnet-base)",
        "metric": "macro_f1",
        "settled": True,
        "stated": {"macro_f1": [0.7, 0.6, 0.8], "accuracy": [0.8, 0.7, 0.9]},
    }
    kept = [
        {"name": "tfidf", "score": 0.5, "rows": 60, "fit_seconds": 0.1},
        {"name": "embeddings (mpnet-base)", "score": 0.72, "rows": 60, "fit_seconds": 2.0},
    ]
    losses = (0.3, 0.004)
    choice["candidates"] = [{**each, "expected_loss": lost} for each, lost in zip(kept, losses, strict=True)]
    (tmp_path / "manifest.json").write_text(json.dumps({"origin": {"choice": choice}}))
    found = read_stated(tmp_path)
    assert found == Stated("embeddings (mpnet-base)", "macro_f1", choice["stated"], 0.004, True, kept)
    (tmp_path / "manifest.json").write_text(json.dumps({"origin": {}}))
    assert is_saved(tmp_path) and read_stated(tmp_path) is None


def test_tables_and_chart_show_what_records_have() -> None:
    records = [
        make_record("sst2", "tfidf-lr", 0.625),
        make_record("sst2", "mpnet-lr", 0.875, busy=True),
        make_record("sst2", "setfit-mpnet", 0.75, notes={"steps": 25, "steps_due": 100}),
        make_record("rte", "setfit-mpnet", None),
    ]
    text = write_tables(records)
    assert "| sst2 | 32 | 0.500 | 0.625 | 0.875 | 0.750 |" in text
    assert "| TF-IDF + logistic regression | 1 | 10 (10 to 10) | 1.0 (1.0 to 1.0) | 10.0 (10.0 to 10.0) |" in text
    assert "| SetFit, MPNet | 1 | 0 | 0 | 1, after 25% of its steps or more |  |" in text
    assert "MPNet + logistic regression | 1 |" not in text, "seconds beside other work are no figures"
    words = " ".join(ElementTree.fromstring(draw_page(records)).itertext())
    assert "sst2, 32: MPNet + logistic regression 0.875." in words


def test_the_page_and_its_chart_show_the_committed_records() -> None:
    records, text = read_records(RESULTS), PAGE.read_text(encoding="utf-8")
    assert write_page(text, records) == text
    assert CHART.read_text(encoding="utf-8") == draw_page(records) + "\n"
    readme = README.read_text(encoding="utf-8")
    assert write_readme(readme, records) == readme
    assert [name for name in TABLES if f"<!-- {name}: " not in text] == []


def test_committed_records_lie_where_they_belong_and_hold_figures_alone() -> None:
    records = read_records(RESULTS)
    assert place_records(records)
    for record in records:
        cell = Cell(record["file"], record["rows"], record["sample"], record["contender"])
        assert cell.place(RESULTS).is_file()
        strings = [value for value in record.values() if isinstance(value, str)]
        assert all(len(value) <= 80 and "\n" not in value for value in strings), cell
