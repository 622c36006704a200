"""The tables of the pages in docs/, written from the committed result files.

    python -m benchmarks.page        writes every block anew

Owns which block shows which file. A block stands between `<!-- NAME: command -->` and `<!-- /NAME -->`; text around the
blocks is the author's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.ablation.table import write_table as write_ablation
from benchmarks.agreement.table import write_table as write_agreement
from benchmarks.apart import ROOT
from benchmarks.calibration import write_table as write_calibration
from benchmarks.candidates import write_table as write_candidates
from benchmarks.chaos.__main__ import write_table as write_chaos
from benchmarks.cola_pattern_fits import write_table as write_cola_pattern_fits
from benchmarks.cola_patterns import write_table as write_cola_patterns
from benchmarks.constrained_words import write_table as write_constrained
from benchmarks.coverage.table import write_table as write_coverage
from benchmarks.demo import write_table as write_demo
from benchmarks.exports import write_table as write_exports
from benchmarks.few_pairs import write_table as write_few_pairs
from benchmarks.in_context_settings import write_table as write_in_context
from benchmarks.killed_fit import write_table as write_killed_fit
from benchmarks.labels import write_table as write_labels
from benchmarks.large_report import write_table as write_large_report
from benchmarks.many_trials import write_table as write_many_trials
from benchmarks.method_settings import ARMS
from benchmarks.method_settings import write_table as write_settings
from benchmarks.predict_rows.__main__ import write_table as write_predict
from benchmarks.race.table import write_table as write_race
from benchmarks.resident import write_table as write_resident
from benchmarks.scaling.table import write_tables as write_scaling
from benchmarks.seconds_by_kind import write_table as write_kinds
from benchmarks.serve import write_table as write_serve
from benchmarks.serve_profile import write_table as write_serve_profile
from benchmarks.settings_by_shots import write_table as write_by_shots
from benchmarks.since import write_table as write_since
from benchmarks.workers import write_table as write_workers

RESULTS = ROOT / "benchmarks" / "results"


def _fence(write: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    """A plain table keeps its columns inside a code block."""
    return lambda results: f"```\n{write(results)}\n```"


Blocks = Mapping[str, Callable[[dict[str, Any]], str]]
"""What writes the block of the result file of that name."""

PAGES: Mapping[Path, Blocks] = {
    ROOT / "docs" / "performance.md": {
        "race": _fence(write_race),
        "race_family25": _fence(write_race),
        "race_encoders": _fence(write_race),
        "demo": write_demo,
        "seconds_by_kind": write_kinds,
        "labels": write_labels,
        "since": write_since,
        "resident": write_resident,
        "ablation": write_ablation,
        "ablation_family25": write_ablation,
        "agreement": write_agreement,
        "scaling": write_scaling,
        "large_report": write_large_report,
    },
    ROOT / "docs" / "scale.md": {"chaos": write_chaos, "workers": write_workers, "many_trials": write_many_trials},
    ROOT / "docs" / "defaults.md": {
        "in_context_settings": write_in_context,
        "cola_patterns": write_cola_patterns,
        "cola_pattern_fits": write_cola_pattern_fits,
        "constrained_words": write_constrained,
        **{f"settings_{method}": write_settings for method in ARMS},
        "settings_by_shots": write_by_shots,
    },
    ROOT / "docs" / "statistics.md": {"coverage": write_coverage},
    ROOT / "docs" / "models.md": {
        "calibration": write_calibration,
        "predict_rows": write_predict,
        "exports": write_exports,
        "candidates": write_candidates,
        "few_pairs": write_few_pairs,
        "killed_fit": write_killed_fit,
    },
    ROOT / "docs" / "serving.md": {"serve": write_serve, "serve_profile": write_serve_profile},
}


def fill_blocks(text: str, blocks: Blocks, results: Path) -> str:
    """The page with the block of every result file there is; ValueError where a file has no block, or more than one."""
    for name, write in blocks.items():
        file = results / f"{name}.json"
        if not file.is_file():
            continue
        text = fill_block(text, name, write(json.loads(file.read_text(encoding="utf-8"))))
    return text


def fill_block(text: str, name: str, table: str) -> str:
    """The page with one block's table; ValueError where it has no block of that name, or more than one."""
    block = re.compile(rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    escaped = table.replace("\\", r"\\")  # none stands for a group
    text, count = block.subn(rf"\g<1>\n{escaped}\n\n\g<2>", text)
    if count != 1:
        raise ValueError(f"the page has {count} blocks {name!r}: it needs one")
    return text


def main() -> None:
    """Write the pages."""
    for page, blocks in PAGES.items():
        page.write_text(fill_blocks(page.read_text(encoding="utf-8"), blocks, RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
