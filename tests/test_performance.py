"""Every table of the page on performance is what its result file gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.page import BLOCKS, PAGE, RESULTS, fill_blocks

SCALING = {"machine": {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0"}}, "points": []}


def test_the_page_shows_the_committed_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert fill_blocks(text, RESULTS) == text


def test_a_block_is_written_from_its_file_and_the_text_around_it_stays(tmp_path: Path) -> None:
    (tmp_path / "scaling.json").write_text(json.dumps(SCALING))
    filled = fill_blocks("before\n<!-- scaling: a command -->\nold\n<!-- /scaling -->\nafter\n", tmp_path)
    assert filled.startswith("before\n<!-- scaling: a command -->\n\n| over |") and "old" not in filled
    assert filled.endswith("made-up, 2 threads; torch 2.0.\n\n<!-- /scaling -->\nafter\n")
    assert fill_blocks(filled, tmp_path) == filled


def test_a_result_file_without_a_block_is_told(tmp_path: Path) -> None:
    (tmp_path / "scaling.json").write_text(json.dumps(SCALING))
    with pytest.raises(ValueError, match="0 blocks 'scaling'"):
        fill_blocks("nothing here", tmp_path)
    assert set(BLOCKS) == {"race", "ablation", "agreement", "scaling"}
