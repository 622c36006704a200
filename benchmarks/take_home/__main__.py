"""The command: which cells are made, for how long, and what is written of them.

Owns its arguments, and going on: what is there stays.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from benchmarks.apart import ROOT
from benchmarks.take_home.cells import (
    CAP_SECONDS,
    RESULTS,
    Circumstances,
    Record,
    list_cells,
    make_cell,
    measure_cells,
    read_records,
)
from benchmarks.take_home.contenders import CONTENDERS, Part, find_contenders
from benchmarks.take_home.embedding import SCRATCH, embed_file, list_texts, name_embeddings, open_encoder
from benchmarks.take_home.files import FILES, SAMPLES, make_up_file, read_file
from benchmarks.take_home.page import CHART, PAGE, README, draw_page, write_page, write_readme, write_tables
from fewtune.errors import FewtuneError

AGAIN = ("failed", "busy", "all")
SMOKE = ("tfidf-lr",)
"""Needs no model."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is asked and print the tables."""
    given = parse(arguments)
    if given.write:
        records = read_records(given.results)
        PAGE.write_text(write_page(PAGE.read_text(encoding="utf-8"), records), encoding="utf-8")
        CHART.write_text(draw_page(records) + "\n", encoding="utf-8")
        README.write_text(write_readme(README.read_text(encoding="utf-8"), records), encoding="utf-8")
        return
    began = time.monotonic()
    if given.smoke:
        files, results = [make_up_file()], Path(tempfile.mkdtemp())
        contenders: Sequence[str] = SMOKE
    else:
        try:
            files = [read_file(name, given.data_dir) for name in given.files]
        except FewtuneError as error:
            raise SystemExit(str(error)) from None
        contenders, results = given.contenders or list_contenders(given.part), given.results

    def has_time() -> bool:
        return given.budget_minutes is None or time.monotonic() - began < 60 * given.budget_minutes

    if given.embed:
        for encoder in dict.fromkeys(each for name in contenders if (each := CONTENDERS[name].encoder) is not None):
            embed = open_encoder(encoder)
            for file in files:
                texts = list_texts(file, given.most_rows)
                left = embed_file(texts, name_embeddings(encoder, file.name), embed, has_time)
                print(f"{encoder}, {file.name}: {left} texts are left", flush=True)
        return
    cells = [
        cell
        for cell in list_cells(files, contenders, given.samples)
        if given.most_rows is None or cell.rows <= given.most_rows
    ]
    left = measure_cells(
        cells,
        {file.name: file for file in files},
        results,
        partial(is_wanted, given.again),
        has_time,
        partial(make_cell, here=find_circumstances(given)),
    )
    print(write_tables(read_records(results)))
    if left:
        print(f"\n{left} of these cells are left: the same command goes on.")
    if given.smoke:
        print(f"\nThis was a smoke test on made-up rows, kept in {results}: its figures say nothing.")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was given."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.take_home", description="One file, many ways, one page."
    )
    parts = get_args(Part)
    parser.add_argument("--part", nargs="+", choices=parts, default=["fewtune", "peers"], help="whose cells")
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES), metavar="FILE", help="whose rows")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, metavar="NAME", help="these, of whatever part")
    parser.add_argument("--samples", type=int, choices=range(1, SAMPLES + 1), default=SAMPLES, help="of each file")
    parser.add_argument("--most-rows", type=int, metavar="N", help="no cells of more labelled rows")
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="begin no cell after so long")
    parser.add_argument(
        "--cap-minutes", type=float, default=CAP_SECONDS / 60, metavar="M", help="what a model may take"
    )
    parser.add_argument("--busy", action="store_true", help="other work runs here: scores alone count, seconds do not")
    parser.add_argument("--embed", action="store_true", help="embed all texts once, for cells of --busy; make no cell")
    parser.add_argument("--again", choices=AGAIN, help="make anew cells that failed, ran beside other work, or all")
    parser.add_argument("--data-dir", type=Path, default=ROOT / ".." / "shared" / "data", help="the evaluation data")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of records")
    parser.add_argument(
        "--autointent-python",
        type=Path,
        default=SCRATCH / "autointent" / "bin" / "python",
        metavar="FILE",
        help="AutoIntent asks for other releases than fewtune: the Python of an environment that has it",
    )
    parser.add_argument("--write", action="store_true", help="write the page and its chart; make nothing")
    parser.add_argument("--smoke", action="store_true", help="two tiny cells of made-up rows, in a temporary folder")
    return parser.parse_args(arguments)


def list_contenders(parts: Sequence[Part]) -> list[str]:
    """The names of some parts' contenders."""
    return [name for part in parts for name in find_contenders(part)]


def find_circumstances(given: argparse.Namespace) -> Circumstances:
    """How cells are made here."""
    python = given.autointent_python
    missing = {} if python.is_file() else {"autointent": "not installed in an environment of its own"}
    return Circumstances(60 * given.cap_minutes, given.busy, {"autointent": python}, missing)


def is_wanted(again: str | None, record: Record | None) -> bool:
    """Whether a cell is to be made, by the record there is of it."""
    if record is None or again == "all":
        return True
    if again == "failed":
        return bool(record["ended"] in ("failed", "not run"))
    return again == "busy" and bool(record["busy"])


if __name__ == "__main__":
    main()
