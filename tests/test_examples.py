"""Every script and notebook in examples/ runs."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from fewtune.cli.app import app

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs_on_a_tiny_model(
    path: Path, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), str(model_folders["llama"])])
    runpy.run_path(str(path), run_name="__main__")
    told = capsys.readouterr().out
    assert re.search(r"^in_context\b.*: accuracy \d\.\d\d", told, re.MULTILINE)
    assert told.splitlines()[-1] in ("late and broken: praise", "late and broken: complaint")


@pytest.mark.parametrize("name", ["slurm_shards.sh", "slurm_ray.sh", "kuberay.yaml"])
def test_what_a_scheduler_is_given_is_sound_and_asks_for_what_the_command_knows(name: str) -> None:
    text = (FOLDER / name).read_text()
    if name.endswith(".sh"):
        subprocess.run(["bash", "-n", FOLDER / name], check=True)
    else:
        body = yaml.safe_load(text)
        assert body["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    [line] = re.findall(r"^[^#\n]*\bfewtune (run .*)$", text, re.MULTILINE)
    words = [re.sub(r"^.*\$.*$", "1/2", word) for word in shlex.split(re.sub(r"\$\([^)]*\)|\$\w+", "$", line))]
    command, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    assert command.__name__ == "run" and "out" in bound.arguments


def test_the_notebook_runs_with_its_charts_as_pictures(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(FOLDER / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are made by whoever runs it"
    monkeypatch.setenv("FEWTUNE_EXAMPLE_MODEL", str(model_folders["llama"]))
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in data for data in outputs)
    assert any("text/html" in data and "variant" in data["text/html"] for data in outputs)
    answers = outputs[-1]["text/plain"]
    assert set(ast.literal_eval(answers)) <= {"praise", "complaint"}
