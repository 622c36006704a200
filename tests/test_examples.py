"""Every script in examples/ runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs_on_a_tiny_model(path: Path, model_folders: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, path, model_folders["llama"]], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "in_context: accuracy" in done.stdout
    assert done.stdout.splitlines()[-1] in ("late and broken: praise", "late and broken: complaint")
