"""Result files: on which machine, with which software, and every single measurement; the race's timings.

Owns the file, written whole after every measurement, and the refusal to set unlike work side by side. Runs nothing.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fewtune.records import write_atomically
from fewtune.system.processor import name_processor

PACKAGES = (
    "fewtune", "torch", "transformers", "peft", "accelerate", "lm_eval", "setfit", "sentence_transformers", "numpy",
)  # fmt: skip
SAME = ("rows_sha256", "steps", "threads")
"""What must be equal on both sides of a work."""


def describe_machine(threads: int) -> dict[str, Any]:
    """What seconds depend on: timings of another machine or software are never mixed with these."""
    return {
        "processor": name_processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _find_version(name) for name in PACKAGES},
    }


def describe_moment() -> dict[str, Any]:
    """When something was measured, and of which commit."""
    return {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": describe_commit()}


def describe_commit(checkout: Path = Path(__file__).parent) -> str | None:
    """The commit of a checkout, this one by default, `-dirty` where files differ from it; None outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def open_results(path: Path, machine: dict[str, Any], size: dict[str, Any], **empty: Any) -> dict[str, Any]:
    """The results to go on from; `empty` where there are none, or they are another machine's, software's or size's."""
    size = json.loads(json.dumps(size))
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["machine"] == machine and found["size"] == size:
            return found
    return {"machine": machine, "size": size, **empty}


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())


def find_timings(results: dict[str, Any], work: str, side: str) -> list[dict[str, Any]]:
    """A side's timings of a work, by repeat."""
    found = [t for t in results["timings"] if t["work"] == work and t["side"] == side]
    return sorted(found, key=lambda t: int(t["repeat"]))


def check_same_work(timings: Sequence[dict[str, Any]]) -> None:
    """Raise ValueError where sides of one work differ in rows, steps or threads."""
    for key in SAME:
        given = {t["side"]: t[key] for t in timings if t.get(key) is not None}
        if len(set(given.values())) > 1:
            raise ValueError(f"{timings[0]['work']}: the sides differ in {key}: {given}. That is no race.")


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
