"""Every method, fitted on every architecture, saved and loaded in another process, scores to the last bit as before."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.methods import get_method
from fewtune.methods.base import find_skip_reason
from fewtune.models import Precision, find_model
from fewtune.tasks.base import Draw, Task
from method_cases import SAVED_CASES, run

# Loads what is saved and scores the rows, where nothing that unpickles works.
LOADER = """
import json, pickle, sys
from pathlib import Path
import numpy as np
import torch

def refuse(*given, **named):
    raise AssertionError("a pickle was read")

from fewtune.predictors.folder import load_predictor
from fewtune.tasks.base import Example

pickle.load = pickle.loads = torch.load = refuse
root = Path(sys.argv[1])
rows = [Example(name, fields, None) for name, fields in json.loads((root / "rows.json").read_text())]
for folder in sorted(root.glob("*/saved")):
    np.save(folder.parent / "loaded.npy", load_predictor(folder).log_probabilities(rows))
"""

ALL: list[tuple[Precision, str, str, dict[str, Any]]] = [("float32", *case) for case in SAVED_CASES]
ALL += [
    ("bfloat16", architecture, name, values)
    for architecture, name, values in SAVED_CASES
    if architecture in ("gpt2", "llama") and get_method(name).uses_model
]


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
    model_folders: dict[str, Path],
    models: dict[str, LanguageModel],
    task: Task,
    draw: Draw,
) -> Path:
    """A folder for each case: its predictor, the scores it gave, and those that a fresh process gave after loading."""
    root = tmp_path_factory.mktemp("predictors")
    rows = [row for test in draw.test_sets for row in test.rows]
    (root / "rows.json").write_text(json.dumps([[row.row_id, dict(row.fields)] for row in rows]))
    loaded: dict[tuple[Precision, str], LanguageModel] = {("float32", name): model for name, model in models.items()}
    blind = [row.without_label() for row in rows]
    for number, (precision, architecture, name, values) in enumerate(ALL):
        method = get_method(name)
        if (precision, architecture) not in loaded:
            loaded[precision, architecture] = load_model(find_model(str(model_folders[architecture])), precision)
        model, settings = loaded[precision, architecture], method.settings(**values)
        if find_skip_reason(method, settings, model.config, task) is not None:
            continue
        predictor = run(method, settings, model, task, draw).predictor
        folder = root / f"{number:03}"
        folder.mkdir()
        np.save(folder / "expected.npy", predictor.log_probabilities(blind))
        replace(predictor, origin={"method": name, "settings": json.loads(json.dumps(values))}).save(folder / "saved")
    subprocess.run([sys.executable, "-c", LOADER, str(root)], check=True)
    return root


@pytest.mark.parametrize(
    "number", range(len(ALL)), ids=["-".join(map(str, (*case[:3], *case[3].values()))) for case in ALL]
)
def test_a_fitted_method_answers_the_same_in_a_fresh_process(number: int, saved: Path) -> None:
    folder = saved / f"{number:03}"
    if not folder.exists():
        _, architecture, name, _ = ALL[number]
        assert architecture in tiny_models.ENCODERS or (architecture, name) == ("llama", "bitfit"), "it lacks nothing"
        return
    np.testing.assert_array_equal(np.load(folder / "loaded.npy"), np.load(folder / "expected.npy"))


def test_nothing_that_could_run_code_is_written(saved: Path) -> None:
    files = [path for path in saved.glob("*/saved/**/*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        head = path.read_bytes()[:9]
        # safetensors opens with the length of its header and a brace; a pickle with 0x80, a zip with PK.
        assert head[:1] == b"{" if path.suffix == ".json" else head[8:9] == b"{"


def test_what_trains_little_is_small(saved: Path) -> None:
    sizes: dict[str, int] = {}
    for number, (precision, architecture, name, _) in enumerate(ALL):
        folder = saved / f"{number:03}" / "saved"
        if (precision, architecture) == ("float32", "opt") and name not in sizes:
            sizes[name] = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    for name in ("adaptive", "lora", "bitfit", "ia3", "soft_prompt"):
        assert sizes[name] < sizes["pattern"], name
    assert sizes["in_context"] == 0
