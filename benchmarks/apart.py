"""A request answered by a module in a process of its own, so that nothing that ran before warms it or adds to its peak.

Owns how request and answer travel, and starting as workers do. `python -m MODULE REQUEST OUT`: the request as JSON, the
file for the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fewtune.running.executors.process import WORKER_ENVIRONMENT

ROOT = Path(__file__).parent.parent


def run_apart(module: str, request: dict[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a module on a request and read what it found; ends with what it said where it fails.

    `environment` is set besides what this process has.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", module, json.dumps(request), str(out)]
        variables = {**os.environ, **(environment or {})}
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = f"{json.dumps(request)}: the process ended with {done.returncode}"
            raise SystemExit(f"{done.stdout}{done.stderr}\n{said}")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def answer_request(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """In the process apart: read the request, answer it, write what was found."""
    request, out = sys.argv[1:]
    Path(out).write_text(json.dumps(answer(json.loads(request))), encoding="utf-8")


def start_as_worker(module: str) -> None:
    """Make sure libraries started as a worker's do: else a new process runs the module, and this one ends."""
    if all(os.environ.get(name) == value for name, value in WORKER_ENVIRONMENT.items()):
        return
    command = [sys.executable, "-m", module, *sys.argv[1:]]
    raise SystemExit(subprocess.run(command, cwd=ROOT, env=os.environ | WORKER_ENVIRONMENT, check=False).returncode)
