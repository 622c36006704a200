"""A campaign: every case of some kinds run in a pool of processes, judged and counted.

Owns the pool, the counts and their table. Does not know any kind.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attack.case import Case, Kind, run_case
from benchmarks.attack.material import make_material
from benchmarks.attack.stage import PRELOADED, reuse_fork_server
from benchmarks.attack.verdict import Verdict
from benchmarks.markdown import write_markdown

COUNTED = ("traceback", "hang", "silent_wrong", "unclear", "skipped", "broken")
"""What is counted besides the cases tried."""

SMOKE = 2
"""Cases a kind in the quick version, of the kinds that are quick."""


def attack(
    kinds: Mapping[str, Kind],
    smoke: bool,
    jobs: int,
    tell: Any = print,
    most: int | None = None,
    patience: float = 1.0,
) -> dict[str, Any]:
    """Run the kinds' cases, at most so many of each, and count what they came to, by kind; in the smoke version two.

    `patience` is how many times as long as on a machine of its own a command may take.
    """
    # Threads that wait by spinning starve each other where several cases share the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    multiprocessing.set_forkserver_preload(PRELOADED)
    context = multiprocessing.get_context("forkserver")
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="fewtune-attack-") as folder:
        material = Path(folder) / "material"
        material.mkdir()
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            pool.submit(prepare, material, not smoke, patience).result()
            work = [(kind, case) for kind in kinds.values() for case in choose_cases(kind, smoke, most)]
            for alone in (False, True):
                chosen = [w for w in work if w[0].alone == alone]
                results |= run_all(chosen, partial(time_case, material=material, patience=patience), pool, tell, alone)
    return {name: results[name] for name in kinds if name in results}


def prepare(material: Path, finished: bool, patience: float) -> None:
    """In a process of the pool: make what cases start from."""
    reuse_fork_server()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars of the model being saved
        make_material(material, finished, patience)


def choose_cases(kind: Kind, smoke: bool, most: int | None = None) -> Sequence[Case]:
    """All cases of a kind, at most so many spread over them, or the first few."""
    if smoke:
        return kind.make_cases(SMOKE)[:SMOKE]
    cases = kind.make_cases(kind.size)
    if most is None or len(cases) <= most:
        return cases
    return [cases[place * len(cases) // most] for place in range(most)]


def run_all(
    work: Sequence[tuple[Kind, Case]],
    run: Callable[[Case], tuple[Verdict, float]],
    pool: ProcessPoolExecutor,
    tell: Any,
    alone: bool,
) -> dict[str, dict[str, Any]]:
    """Run cases, one at a time where they must be alone, and count them by kind."""
    found: dict[str, list[tuple[str, Verdict, float]]] = {kind.name: [] for kind, _ in work}
    for batch in [[each] for each in work] if alone else [list(work)]:
        waiting: dict[Future[tuple[Verdict, float]], tuple[Kind, Case]] = {
            pool.submit(run, case): (kind, case) for kind, case in batch
        }
        for future in as_completed(waiting):
            kind, case = waiting[future]
            try:
                verdict, seconds = future.result()
            except RuntimeError as error:  # the attack's own mistake: told, counted, and the rest goes on
                verdict, seconds = Verdict("broken", str(error)), 0.0
            found[kind.name].append((case.name, verdict, seconds))
            if verdict.word != "right":
                tell(f"{verdict.word}  [{kind.item}] {kind.name}: {case.name}: {verdict.detail}", flush=True)
    items = {kind.name: kind.item for kind, _ in work}
    return {name: count(items[name], each) for name, each in found.items()}


def time_case(case: Case, material: Path, patience: float) -> tuple[Verdict, float]:
    """In a process of the pool: a case's verdict and its seconds."""
    started = time.perf_counter()
    verdict = run_case(case, material, patience)
    return verdict, time.perf_counter() - started


def count(item: int, judged: Sequence[tuple[str, Verdict, float]]) -> dict[str, Any]:
    """Counts of one kind by word, its seconds, and what was found."""
    counts = Counter[str](verdict.word for _, verdict, _ in judged)
    return {
        "item": item,
        "tried": len(judged) - counts["skipped"],
        **{word: counts[word] for word in COUNTED},
        "seconds": round(sum(seconds for _, _, seconds in judged), 1),
        "found": [
            {"case": name, "word": verdict.word, "detail": verdict.detail}
            for name, verdict, _ in sorted(judged, key=lambda each: each[0])
            if verdict.word != "right"
        ],
    }


def write_table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """Counts by kind and in all, as Markdown."""
    columns = ("tried", *COUNTED)
    rows = [[name, str(each["item"]), *(str(each[word]) for word in columns)] for name, each in kinds.items()]
    rows.append(["all", "", *(str(sum(each[word] for each in kinds.values())) for word in columns)])
    heads = (
        "kind",
        "finding",
        "tried",
        "tracebacks",
        "hangs",
        "silent wrong",
        "unclear messages",
        "skipped",
        "attack broken",
    )
    return write_markdown(heads, rows)
