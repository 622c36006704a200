"""On a GPU every method fits and scores as on the processor; without one these say what is missing."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewtune.engine.attention import Arithmetic, attend_rows
from fewtune.engine.language_model import LanguageModel, SharedNetworks
from fewtune.engine.loading import hold_model, load_model
from fewtune.methods import METHODS, get_method
from fewtune.models import Precision, find_model
from fewtune.records import load_predictions, load_records
from fewtune.running.prepare import prepare_jobs
from fewtune.study import load_study
from fewtune.tasks.base import Draw, Task
from listening import run_jobs
from reference_loop import fit_losses, make_plan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: run on a machine with one")

FITTED: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "vanilla", {}),
    ("llama", "pattern", {}),
    ("llama", "adaptive", {"blocks": 1}),
    ("llama", "lora", {}),
    ("llama", "lora", {"base": "4bit"}),
    ("llama", "ia3", {}),
    ("llama", "soft_prompt", {}),
    ("llama", "soft_prompt", {"kind": "prefix"}),
    ("llama", "self_training", {}),
    ("llama", "context_distillation", {"demonstrations": 2, "contexts": 2, "calibration": "contextual"}),
    ("gpt2", "bitfit", {}),
    ("bert", "pattern", {}),
    ("deberta-v3", "lora", {"readout": "head"}),
    ("sentence-encoder", "contrastive", {}),
    ("sentence-encoder", "vanilla", {}),
]
"""Every method that trains a model, and encoders of each way of attending: model, method, settings."""
UNTRAINED: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "in_context", {"demonstrations": 4}),
    ("llama", "in_context", {"demonstrations": 4, "pattern": "verdict"}),
    ("llama", "zero_shot", {}),
    ("llama", "knn_prompting", {"demonstrations": 2, "neighbours": 2}),
    ("llama", "probe", {}),
    ("bert", "zero_shot", {}),
    ("deberta-v3", "probe", {}),
    ("sentence-encoder", "embeddings", {}),
]
"""Every method that reads a model as it is."""


def test_every_method_that_uses_a_model_is_here() -> None:
    assert {name for _, name, _ in (*FITTED, *UNTRAINED)} == {name for name in METHODS if get_method(name).uses_model}


def load_on_gpu(folder: Path, precision: Precision) -> LanguageModel:
    model = load_model(find_model(str(folder)), precision)
    assert model.device.type == "cuda"
    return model


def move_to_processor(model: LanguageModel, folder: Path) -> LanguageModel:
    network = copy.deepcopy(model.frozen).to("cpu")
    place = find_model(str(folder))
    networks = SharedNetworks(partial(copy.deepcopy, network), model.networks.sketch, torch.device("cpu"))
    return hold_model(place, networks, model.tokenizer.source, "float32")


@pytest.mark.parametrize(("kind", "name", "settings"), FITTED)
def test_a_fit_takes_the_course_it_takes_on_the_processor(
    kind: str, name: str, settings: dict[str, Any], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    on_gpu = load_on_gpu(model_folders[kind], "float32")
    on_processor = move_to_processor(on_gpu, model_folders[kind])
    plans = [make_plan(name, model, task, draw, epochs=3, batch_size=4, **settings) for model in (on_gpu, on_processor)]
    one, other = (fit_losses(plan) for plan in plans)
    np.testing.assert_allclose(one, other, atol=1e-3)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    np.testing.assert_allclose(plans[0].score(rows), plans[1].score(rows), atol=5e-3)


@pytest.mark.parametrize(("kind", "name", "settings"), UNTRAINED)
def test_what_is_not_trained_answers_as_on_the_processor(
    kind: str, name: str, settings: dict[str, Any], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    on_gpu = load_on_gpu(model_folders[kind], "float32")
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    one, other = (
        make_plan(name, model, task, draw, **settings).score(rows)
        for model in (on_gpu, move_to_processor(on_gpu, model_folders[kind]))
    )
    np.testing.assert_allclose(one, other, atol=5e-3)


@pytest.mark.parametrize(("kind", "name", "settings"), FITTED)
def test_bfloat16_fits_stay_near_float32(
    kind: str, name: str, settings: dict[str, Any], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    exact, near = (
        fit_losses(
            make_plan(name, load_on_gpu(model_folders[kind], precision), task, draw, epochs=2, batch_size=4, **settings)
        )
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(near, exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("lengths", [(5, 9, 7), (200, 3, 150)])
@pytest.mark.parametrize("prefix_tokens", [0, 20])
def test_attention_equals_that_on_the_processor(lengths: tuple[int, ...], prefix_tokens: int) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, heads, sum(lengths), 8, generator=generator) for heads in (4, 2, 2))
    first = [torch.randn(1, 2, prefix_tokens, 8, generator=generator) for _ in range(2)]

    def attend(device: str) -> torch.Tensor:
        before = (first[0].to(device), first[1].to(device)) if prefix_tokens else None
        return attend_rows(q.to(device), k.to(device), v.to(device), before, lengths, Arithmetic(0.3)).cpu()

    torch.testing.assert_close(attend("cuda"), attend("cpu"), atol=1e-4, rtol=1e-4)


def test_trials_run_twice_alike_to_the_bit_and_count_their_memory(study_file: Path, tmp_path: Path) -> None:
    for turn in ("1", "2"):
        jobs, _ = prepare_jobs(load_study(study_file, ["precision=bfloat16"]), None)
        run_jobs(jobs, tmp_path / turn, workers=1)
    for record in load_records(tmp_path / "1"):
        one, other = (load_predictions(tmp_path / turn, record.trial_id) for turn in ("1", "2"))
        assert one.equals(other), record.trial.variant
        if record.trial.model is not None:
            assert record.cost is not None and record.cost.peak_memory_bytes and record.cost.resident_memory_bytes
            assert record.cost.resident_memory_bytes <= torch.cuda.get_device_properties(0).total_memory


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trials_that_share_the_gpu_answer_as_they_do_one_after_the_other(
    precision: str, study_file: Path, tmp_path: Path
) -> None:
    for workers in (1, 3):
        jobs, _ = prepare_jobs(load_study(study_file, [f"precision={precision}"]), None)
        run_jobs(jobs, tmp_path / str(workers), workers=workers)
    records = load_records(tmp_path / "1")
    assert {record.status for record in records} == {"done"}
    for record in records:
        alone, beside = (load_predictions(tmp_path / folder, record.trial_id) for folder in ("1", "3"))
        scores = [name for name in alone.columns if name.startswith("score_")]
        np.testing.assert_allclose(alone[scores].to_numpy(), beside[scores].to_numpy(), atol=5e-3)
