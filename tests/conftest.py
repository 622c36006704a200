"""What every test may use: one tiny model per architecture, made once a run, and a made-up task."""

from __future__ import annotations

import gc
import os
import shutil
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch: tests share their cores with what they start
if sys.platform == "linux" and (WORKER := os.environ.get("PYTEST_XDIST_WORKER")):
    # Each worker of pytest-xdist, with all that it starts, has a core of its own: else each would use every core.
    CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {CORES[int(WORKER.removeprefix("gw")) % len(CORES)]})
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock

import tiny_models
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.models import find_model
from fewtune.running.executors.in_process import InProcess
from fewtune.running.executors.local import LocalProcesses
from fewtune.running.executors.process import import_engine
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling, make_draw
from no_charts import leave_charts_out
from saved_cases import save_cases

STUDY = """
name: tiny
models: [{model}]
tasks:
  - own_files: {{train: {data}, text: text, label: label, as: feelings}}
methods:
  - majority
  - in_context: {{demonstrations: 2}}
  - pattern: {{epochs: 2}}
  - lora: {{epochs: 2}}
shots: [4]
data_seeds: [0, 1]
precision: float32
baselines: false
"""

os.environ.setdefault("HF_HUB_OFFLINE", "1")


LONG_FILES = (
    "test_paper_grid.py",
    "exporting/test_exports.py",
    "running/executors/test_ray.py",
    "predictors/test_fresh_process.py",
    "running/executors/test_devices_per_trial.py",
    "tracking/test_mlflow.py",
    "running/executors/test_every_executor.py",
    "test_examples.py",
    "test_plugins.py",
    "engine/test_splitting.py",
)
"""Files of few tests that take long: begun last, one of them would leave the other process nothing to do."""


LONG = {Path(__file__).parent / name: place for place, name in enumerate(LONG_FILES)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files, then with those of most tests (`--no-loadscope-reorder` keeps that order)."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (LONG.get(item.path, len(LONG)), -tests[item.path]))


@pytest.fixture(scope="module", autouse=True)
def long_files_leave_no_garbage(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a long file imported is kept out of later garbage collections, as by workers: trials ask for several."""
    yield
    if request.path in LONG:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def imports_apart() -> None:
    """What trials import, imported and kept out of garbage collections as workers do: each trial asks for several."""
    import_engine()


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of commands run in this process: a worker takes seconds to start, and is the claim of few tests."""
    monkeypatch.setattr(LocalProcesses, "run", lambda self, jobs: InProcess(self.options).run(jobs))


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have no charts."""
    leave_charts_out(monkeypatch)


@pytest.fixture(scope="session")
def model_folders(imports_apart: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny random models by architecture name."""
    root = tmp_path_factory.mktemp("models")
    kinds = (*tiny_models.CONFIGS, *tiny_models.MORE_DECODERS, *tiny_models.ENCODERS)
    return {name: tiny_models.save(name, root / name) for name in kinds}


@pytest.fixture(scope="session")
def models(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    """The tiny models loaded in float32, by architecture name."""
    return {name: load_model(find_model(str(path)), "float32") for name, path in model_folders.items()}


@pytest.fixture(params=sorted(tiny_models.CONFIGS))
def model(request: pytest.FixtureRequest, models: dict[str, LanguageModel]) -> LanguageModel:
    """Each tiny decoder in turn."""
    return models[request.param]


@pytest.fixture(scope="session")
def task() -> Task:
    """A made-up two-label task whose label words are several tokens for one pattern and one for the other."""
    return tiny_models.make_task()


@pytest.fixture(scope="session")
def draw(imports_apart: None, task: Task) -> Draw:
    return make_draw(task, Sampling(8, pool_rows=6), data_seed=0)


@pytest.fixture(scope="session")
def saved_cases(
    tmp_path_factory: pytest.TempPathFactory,
    model_folders: dict[str, Path],
    models: dict[str, LanguageModel],
    task: Task,
    draw: Draw,
) -> Path:
    """The folder that `save_cases` filled, in this process or in another of this run."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "saved_cases"
    with FileLock(f"{root}.lock"):
        if not (root / "whole").exists():
            shutil.rmtree(root, ignore_errors=True)  # half made, where it failed before
            root.mkdir()
            save_cases(root, model_folders, models, task, draw)
            (root / "whole").touch()
    return root


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory, model_folders: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("study")
    task = tiny_models.make_task()
    rows = [*task.train, *(row for test in task.test_sets for row in test.rows)]
    data = folder / "feelings.csv"
    pl.DataFrame(
        {"text": [r.fields["text"] for r in rows], "label": [task.labels[r.label or 0] for r in rows]}
    ).write_csv(data)
    path = folder / "study.yaml"
    path.write_text(STUDY.format(model=model_folders["llama"], data=data))
    return path


@pytest.fixture
def small_study(study_file: Path, tmp_path: Path) -> Path:
    """A study that runs in a second: the majority alone."""
    path = tmp_path / "small.yaml"
    path.write_text(
        f"name: small\ntasks:\n  - own_files: {{train: {study_file.parent / 'feelings.csv'}, text: text}}\n"
        "methods: [majority]\nshots: [4]\nbaselines: false\n"
    )
    return path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file of that name and content under the test's folder."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file
