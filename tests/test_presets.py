"""The presets load, are the grids they say, and pass the check on real rows with tiny models in place of the real."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.engine.schedule import Optimisation
from fewtune.running.prepare import prepare_jobs
from fewtune.study import Study, load_study
from fewtune.study.grid import list_trials, resolve_shots

STUDIES = Path(__file__).parent.parent / "studies"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# Trials without a model (majority, tfidf), and with one (probe and zero_shot besides the methods listed), by tasks x
# shots x draws.
GRIDS = {
    "paper-as-released": 2 * 5 * 10 * (2 + 2 * 8),
    "paper-corrected": 2 * 5 * 10 * (2 + 2 * 8),
    "mosbach2023": 4 * 5 * 10 * (2 + 2 * 4),
}


def load(name: str, *overrides: str) -> Study:
    return load_study(STUDIES / f"{name}.yaml", overrides)


@pytest.mark.parametrize("name", GRIDS)
def test_a_preset_opens_with_its_schema_and_is_named_as_its_file(name: str) -> None:
    first = (STUDIES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=study.schema.json"
    assert load(name).name == name


@pytest.mark.parametrize("name", GRIDS)
def test_a_preset_has_its_whole_grid(name: str) -> None:
    assert len(list_trials(load(name))) == GRIDS[name]


@pytest.mark.parametrize("name", GRIDS)
def test_a_preset_passes_the_check_on_tiny_models_and_real_rows(name: str, model_folders: dict[str, Path]) -> None:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real rows are not at {SHARED_DATA}: lay the evaluation data there to run this test")
    folders = f"[{model_folders['opt']}, {model_folders['opt-350m-shaped']}]"
    reduced = ("evaluation={in_domain_rows: 20, out_of_domain_rows: 20}", "data_seeds=[0]", "max_tokens=100")
    study = load(name, f"models={folders}", *reduced)
    jobs, tasks = prepare_jobs(study, SHARED_DATA)
    # Mosbach et al.'s patterns, three, three, two and one a task, multiply what has a pattern: two baselines, two more.
    spread = 5 * 2 * 4 * (3 + 3 + 2 + 1 - 4) if name == "mosbach2023" else 0
    assert len(jobs) == GRIDS[name] // 10 + spread
    for job in jobs:
        pattern = job.trial.settings.get("pattern")
        names = [given.name for given in tasks[job.trial.task.label].patterns]
        assert pattern is None or pattern in names, f"{job.trial.task.label} has no pattern {pattern}"


def test_the_published_shots_are_four_to_256_rows_in_total() -> None:
    for name in ("paper-as-released", "paper-corrected"):
        totals = sorted({resolve_shots(trial, 2).shots for trial in list_trials(load(name))})
        assert totals == [4, 32, 64, 128, 256]
    assert sorted({trial.shots for trial in list_trials(load("mosbach2023"))}) == [2, 16, 32, 64, 128]


def test_every_trained_method_as_released_trains_as_published() -> None:
    study = load("paper-as-released")
    assert study.max_tokens == 128
    trained = [choice for choice in study.methods if "learning_rate" in choice.settings and choice.name != "probe"]
    assert [choice.variant for choice in trained] == [
        "vanilla",
        "PBFT as released",
        "adaptive 2 blocks",
        "adaptive 1 block",
        "lora",
        "context_distillation",
    ]
    for choice in trained:
        published = Optimisation(epochs=40, batch_size=32, weight_decay=0.0, warmup_fraction=0.1, schedule="linear")
        for key in ("epochs", "batch_size", "weight_decay", "warmup_fraction", "schedule"):
            assert choice.settings[key] == getattr(published, key)
        assert choice.settings["learning_rate"] == 1e-5


def test_corrected_rates_are_of_the_size_that_each_method_needs() -> None:
    rates = {c.name: c.settings["learning_rate"] for c in load("paper-corrected").methods if "epochs" in c.settings}
    assert 1e-5 <= rates["vanilla"] == rates["pattern"] <= 3e-5
    assert 1e-4 <= rates["adaptive"] <= 5e-4
    assert 2e-4 <= rates["lora"] <= 1e-3
