"""The command: which checks run, and where they are written.

Owns going on after an interruption.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.agreement.checks import CHECKS, Size
from benchmarks.agreement.table import write_table
from benchmarks.apart import ROOT
from benchmarks.race.material import MAX_TOKENS, Material, read_material
from benchmarks.race.results import describe_machine, describe_moment, open_results, write_results
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.models import resolve_precision
from fewtune.system.processor import usable_cores

RESULTS = ROOT / "benchmarks" / "results" / "agreement.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description="fewtune and plain float32.")
    parser.add_argument("--only", action="append", choices=CHECKS, metavar="CHECK", help=f"one of {', '.join(CHECKS)}")
    parser.add_argument("--rows", type=int, default=Size.rows, help="test rows")
    parser.add_argument("--again", action="store_true", help="run anew what the results already hold")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the result file")
    parser.add_argument("--table", action="store_true", help="print the table of the results there are; run nothing")
    given = parser.parse_args(arguments)
    if given.table:
        print(write_table(json.loads(given.out.read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(usable_cores())
    size = Size(rows=given.rows)
    material = read_material(size.of_race())
    model = load_model(material.place, resolve_precision("auto"))
    print(write_table(check(given.only or list(CHECKS), material, model, size, given.out, given.again)))


def check(
    names: Sequence[str], material: Material, model: LanguageModel, size: Size, path: Path, again: bool = False
) -> dict[str, Any]:
    """Run some checks; what is already in the file is not run again."""
    model = replace(model, max_tokens=MAX_TOKENS)
    results = open_results(path, describe_machine(torch.get_num_threads()), asdict(size), checks=[])
    for name in names:
        kept = [found for found in results["checks"] if found["check"] != name]
        if len(kept) < len(results["checks"]) and not again:
            continue
        found = CHECKS[name][1](material, model)
        kept.append({"check": name, "precision": model.precision, **describe_moment(), **found})
        results["checks"] = sorted(kept, key=lambda found: list(CHECKS).index(found["check"]))
        write_results(path, results)
        print(f"{name}: {found['equal_share']:.1%} of {found['rows']} predictions equal", flush=True)
    return results


if __name__ == "__main__":
    main()
