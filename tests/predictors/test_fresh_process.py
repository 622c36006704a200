"""Every method, fitted on every architecture, saved and loaded in another process, scores to the last bit as before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from saved_cases import ALL, STACK

# Loads what is saved and scores the rows, where nothing that unpickles works.
LOADER = """
import json, pickle, sys
from pathlib import Path
import numpy as np
import torch

def refuse(*given, **named):
    raise AssertionError("a pickle was read")

from fewtune.predictors.model_folder import load_predictor
from fewtune.tasks.base import Example

pickle.load = pickle.loads = torch.load = refuse
root = Path(sys.argv[1])
rows = [Example(name, fields, None) for name, fields in json.loads((root / "rows.json").read_text())]
for folder in sorted(root.glob("*/saved")):
    np.save(Path(sys.argv[2]) / f"{folder.parent.name}.npy", load_predictor(folder).log_probabilities(rows))
"""


@pytest.fixture(scope="module")
def loaded(saved_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh process answered for each case after loading it."""
    root = tmp_path_factory.mktemp("loaded")
    subprocess.run([sys.executable, "-c", LOADER, str(saved_cases), str(root)], check=True)
    return root


@pytest.mark.parametrize(
    "number", range(len(ALL)), ids=["-".join(map(str, (*case[:3], *case[3].values()))) for case in ALL]
)
def test_a_fitted_method_answers_the_same_in_a_fresh_process(number: int, saved_cases: Path, loaded: Path) -> None:
    folder = saved_cases / f"{number:03}"
    if not folder.exists():
        _, architecture, name, _ = ALL[number]
        assert architecture in tiny_models.ENCODERS or (architecture, name) == ("llama", "bitfit"), "it lacks nothing"
        return
    np.testing.assert_array_equal(np.load(loaded / f"{number:03}.npy"), np.load(folder / "log_probabilities.npy"))


def test_a_stack_answers_the_same_in_a_fresh_process(saved_cases: Path, loaded: Path) -> None:
    expected = np.load(saved_cases / STACK / "log_probabilities.npy")
    np.testing.assert_array_equal(np.load(loaded / f"{STACK}.npy"), expected)


def test_nothing_that_could_run_code_is_written(saved_cases: Path) -> None:
    files = [path for path in saved_cases.glob("*/saved/**/*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        head = path.read_bytes()[:9]
        # safetensors opens with the length of its header and a brace; a pickle with 0x80, a zip with PK.
        assert head[:1] == b"{" if path.suffix == ".json" else head[8:9] == b"{"


def test_what_trains_little_is_small(saved_cases: Path) -> None:
    sizes: dict[str, int] = {}
    for number, (precision, architecture, name, _) in enumerate(ALL):
        folder = saved_cases / f"{number:03}" / "saved"
        if (precision, architecture) == ("float32", "opt") and name not in sizes:
            sizes[name] = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    for name in ("adaptive", "lora", "bitfit", "ia3", "soft_prompt"):
        assert sizes[name] < sizes["pattern"], name
    assert sizes["in_context"] == 0
