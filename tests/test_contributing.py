"""The worked examples of CONTRIBUTING.md, taken from the page and run."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tiny_models
from fewtune import methods, tasks
from fewtune.engine.language_model import LanguageModel
from fewtune.methods.base import find_skip_reason
from fewtune.predictors.model_folder import read_manifest
from fewtune.running.adapt import fit_plan
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import WorkerState, run_trial
from fewtune.study import load_study
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.patterns import check_pattern

PAGE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def load_example(path: str, folder: Path) -> ModuleType:
    """Write the page's code block for a path to a file and import it under the module's own name."""
    found = re.search(re.escape(f"`{path}`:") + r"\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"CONTRIBUTING.md has no code block for {path}"
    file = folder / Path(path).name
    file.write_text(found.group(1), encoding="utf-8")
    name = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
    assert f'"{Path(path).stem}": "{name}",' in PAGE
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    loaded = {
        path: load_example(path, tmp_path) for path in ("src/fewtune/methods/norms.py", "src/fewtune/tasks/parity.py")
    }
    monkeypatch.setitem(methods.METHODS, "norms", "fewtune.methods.norms")
    monkeypatch.setitem(tasks.TASKS, "parity", "fewtune.tasks.parity")
    for module in loaded.values():
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return loaded


def test_the_worked_method_trains_norms_and_nothing_else(
    examples: dict[str, ModuleType], model: LanguageModel, task: Task, draw: Draw, tmp_path: Path
) -> None:
    method = examples["src/fewtune/methods/norms.py"].METHOD
    rng = np.random.default_rng(0)
    plan = method.plan(method.settings(epochs=2, learning_rate=1e-2), model, task, draw, rng)
    rows = [row.without_label() for row in draw.support]
    before = plan.score(rows)
    plan, _ = fit_plan(plan, rng)
    assert not np.array_equal(plan.score(rows), before)
    plan.predictor.save(tmp_path / "saved")
    changed = read_manifest(tmp_path / "saved").scorer.network.names
    assert changed and all("norm" in name or ".ln_" in name for name in changed)


def test_the_worked_method_trains_or_is_skipped_on_every_architecture(
    examples: dict[str, ModuleType], models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    method = examples["src/fewtune/methods/norms.py"].METHOD
    settings, skipped = method.settings(epochs=2), set()
    for kind, model in models.items():
        reason = find_skip_reason(method, settings, model.config, task)
        if reason is not None:
            assert "says no words" in reason
            skipped.add(kind)
        else:
            plan = method.plan(settings, model, task, draw, np.random.default_rng(0))
            assert 0 < plan.trainable_parameters < plan.total_parameters
    assert skipped and skipped < set(tiny_models.ENCODERS)


def test_the_worked_method_and_task_run_in_a_study(
    examples: dict[str, ModuleType], model_folders: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        f"name: worked\nmodels: [{model_folders['llama']}]\ntasks: [{{parity: {{limit: 60}}}}]\n"
        "methods: [{norms: {epochs: 2}}]\nshots: [8]\nprecision: float32\nbaselines: false\n"
    )
    jobs, loaded = prepare_jobs(load_study(path), None)
    for pattern in loaded["parity"].patterns:
        check_pattern(pattern, loaded["parity"].fields, loaded["parity"].labels)
    record, predictions = run_trial(jobs[0], WorkerState())
    assert record.status == "done" and predictions is not None, record.failure
    assert set(record.metrics) == {"in_domain", "larger"} and predictions.height == 20 + 50
