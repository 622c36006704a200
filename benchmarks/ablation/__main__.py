"""The ablation's command: what is timed, in which order, and where it is written.

Owns alternation and going on after an interruption. It runs in a process set up as fewtune's workers are.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablation.levers import EVERY_LEVER_ON, LEVERS, find_levers
from benchmarks.ablation.table import find_timings, write_table
from benchmarks.ablation.works import WORKS, Size, time_loading
from benchmarks.apart import ROOT, start_as_worker
from benchmarks.race.material import MAX_TOKENS, Material, read_material
from benchmarks.race.results import describe_machine, describe_moment, open_results, write_results
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.model_cache import ModelCache
from fewtune.engine.options import EngineOptions
from fewtune.engine.pages import give_back_kept_pages, keep_freed_pages
from fewtune.models import Precision, resolve_precision
from fewtune.system.processor import usable_cores

RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Time what is asked and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description="What each speed lever gives.")
    parser.add_argument("--only", action="append", choices=WORKS, metavar="WORK", help=f"one of {', '.join(WORKS)}")
    parser.add_argument("--steps", type=int, default=Size.steps, help="timed steps of a fit")
    parser.add_argument("--warm-up", type=int, default=Size.warm_up, help="steps before them that are not timed")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each work and lever")
    parser.add_argument("--again", action="store_true", help="time anew what the results already hold")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the result file")
    parser.add_argument("--table", action="store_true", help="print the table of the results there are; run nothing")
    given = parser.parse_args(arguments)
    if given.table:
        print(write_table(json.loads(given.out.read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(usable_cores())
    size = Size(steps=given.steps, warm_up=given.warm_up)
    material = read_material(size.of_race())
    works = given.only or list(WORKS)
    print(write_table(ablate(works, material, size, given.repeats, resolve_precision("auto"), given.out, given.again)))


def ablate(
    works: Sequence[str],
    material: Material,
    size: Size,
    repeats: int,
    precision: Precision,
    path: Path,
    again: bool = False,
) -> dict[str, Any]:
    """Time every work with all levers on and with each off in turn; what is already in the file is not run again."""
    results = open_results(path, describe_machine(torch.get_num_threads()), asdict(size), timings=[])
    if again:
        results["timings"] = [t for t in results["timings"] if t["work"] not in works]
    cache = ModelCache()
    for repeat in range(repeats):
        for work in works:
            for lever in (None, *find_levers(work, precision)):
                if any(t["repeat"] == repeat for t in find_timings(results["timings"], work, lever)):
                    continue
                gc.collect()  # what the work before left
                found = time_work(work, lever, material, size, precision, cache)
                timing = {"work": work, "lever": lever, "repeat": repeat, **describe_moment(), **found}
                results["timings"].append(timing)
                write_results(path, results)
                print(f"{work}, {lever or 'every lever on'}, repeat {repeat + 1}: {found['seconds']:.2f} s", flush=True)
    return results


def time_work(
    work: str, lever: str | None, material: Material, size: Size, precision: Precision, cache: ModelCache
) -> dict[str, Any]:
    """Time a work with one lever off, or none."""
    off = EVERY_LEVER_ON if lever is None else LEVERS[lever]
    chosen: Precision = "float32" if off.in_float32 else precision
    model = take_ready(cache, material, chosen, off.off)
    keep_freed_pages(not off.pages_given_back)
    run = WORKS[work][1] if not off.loaded_anew else time_loading
    try:
        return {"precision": chosen, **asdict(run(material, model, size))}
    finally:
        keep_freed_pages()  # as workers do
        give_back_kept_pages()


def take_ready(cache: ModelCache, material: Material, precision: Precision, options: EngineOptions) -> LanguageModel:
    """The loaded model under the engine's options, its frozen network made."""
    model = replace(cache.get(material.place, precision), max_tokens=MAX_TOKENS, options=options)
    _ = model.frozen
    return model


if __name__ == "__main__":
    start_as_worker("benchmarks.ablation")
    main()
