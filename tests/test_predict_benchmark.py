"""The benchmark of `fewtune predict`: both sides answer the same rows by the same classifier; no second is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.predict_rows.__main__ import main, write_table
from benchmarks.predict_rows.material import LABELS, save_classifier, write_rows
from benchmarks.predict_rows.side import FEWTUNE, PIPELINE, answer


def test_both_sides_answer_the_same_rows_alike(model_folders: dict[str, Path], tmp_path: Path) -> None:
    save_classifier(str(model_folders["llama"]), tmp_path / "predictor", tmp_path / "exported")
    write_rows(tmp_path / "rows.csv", 40)
    mine = answer({"side": FEWTUNE, "folder": str(tmp_path / "predictor"), "rows": str(tmp_path / "rows.csv")})
    asked = {"side": PIPELINE, "rows": str(tmp_path / "rows.csv"), "batch": 8, "precision": "as fewtune"}
    theirs = answer({"folder": str(tmp_path / "exported"), **asked})
    assert mine["rows"] == theirs["rows"] == 40 and len(set(mine["labels"])) > 1 and {*mine["labels"]} <= {*LABELS}
    alike = sum(map(str.__eq__, mine["labels"], theirs["labels"]))
    assert alike >= 38, "rounding to bfloat16 alone may part them"


def test_the_table_sets_fewtune_beside_the_best_batch_size() -> None:
    def side(pace: float, **asked: Any) -> dict[str, Any]:
        return {"rows_a_second": pace, "peak_memory_bytes": 2**30, "same_label": 0.999, **asked}

    whole, half = "as exported", "as fewtune"
    table = write_table(
        {
            "memory": [{"rows": 10_000, "peak_memory_bytes": 2**30, "processor_seconds": 12.3}],
            "pace": {
                "rows": 2000,
                "fewtune": side(90.0),
                "pipeline": [
                    side(20.0, precision=whole, batch=1),
                    side(30.0, precision=whole, batch=8),
                    side(60.0, precision=half, batch=8),
                    side(45.0, precision=half, batch=32),
                ],
            },
            "machine": {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0"}},
        }
    )
    assert "| 10,000 | 1024 MiB | 12 s |" in table
    assert "| pipeline, precision as fewtune, batches of 8 | 60.0 | 1024 MiB |" in table
    assert "fewtune answers 3.00 times (as exported) and 1.50 times (as fewtune) as many a second as the" in table
    assert "with the same label on 99.9% of them" in table


def test_one_folder_without_the_other_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--exported", "somewhere"])
    assert "give both, or neither" in capsys.readouterr().err
