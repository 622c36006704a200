"""Every table of the pages on performance and statistics is what its result file gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.page import PAGES, RESULTS, fill_blocks
from benchmarks.scaling.table import write_tables

SCALING = {"machine": {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0"}}, "points": []}


BLOCKS = {"scaling": write_tables}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_shows_the_committed_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert fill_blocks(text, PAGES[page], RESULTS) == text
    shown = {name for name in PAGES[page] if f"<!-- {name}: " in text}
    assert [name for name in shown if not (RESULTS / f"{name}.json").is_file()] == [], "tables without their record"


def test_a_block_is_written_from_its_file_and_the_text_around_it_stays(tmp_path: Path) -> None:
    (tmp_path / "scaling.json").write_text(json.dumps(SCALING))
    filled = fill_blocks("before\n<!-- scaling: a command -->\nold\n<!-- /scaling -->\nafter\n", BLOCKS, tmp_path)
    assert filled.startswith("before\n<!-- scaling: a command -->\n\n| over |") and "old" not in filled
    assert filled.endswith("made-up, 2 threads; torch 2.0.\n\n<!-- /scaling -->\nafter\n")
    assert fill_blocks(filled, BLOCKS, tmp_path) == filled


def test_a_result_file_without_a_block_is_told(tmp_path: Path) -> None:
    (tmp_path / "scaling.json").write_text(json.dumps(SCALING))
    with pytest.raises(ValueError, match="0 blocks 'scaling'"):
        fill_blocks("nothing here", BLOCKS, tmp_path)
