"""How many operations a training step takes: the same on every processor, so that none slips in unseen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from fewtune.engine.fit import fit
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.models import find_model
from fewtune.tasks.base import Draw, Task
from reference_loop import FIT_SEED, make_plan

BLOCKS = 30
"""As many as SmolLM2-135M has; how wide they are changes no count."""


@pytest.fixture(scope="module")
def deep(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny Llama as deep as SmolLM2, with bfloat16 products."""
    folder = tmp_path_factory.mktemp("deep") / "llama"
    shutil.copytree(model_folders["llama"], folder)
    config = AutoConfig.from_pretrained(folder, num_hidden_layers=BLOCKS)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return load_model(find_model(str(folder)), "bfloat16")


def count_operations(method: str, model: LanguageModel, task: Task, draw: Draw) -> int:
    """Operations of the third step of a fit, those that operations are made of among them."""
    plan = make_plan(method, model, task, draw, epochs=4, batch_size=len(draw.support))
    profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)

    def watch(step: int, steps: int, loss: float) -> None:
        if step == 2:
            profiler.start()
        if step == 3:
            profiler.stop()

    assert plan.fitting is not None
    fit(plan.fitting, np.random.default_rng(FIT_SEED), watch)
    return sum(event.count for event in profiler.key_averages())


@pytest.mark.parametrize(("method", "most"), [("pattern", 19_000), ("lora", 27_500)])
def test_a_step_takes_no_more_operations_than_this(
    method: str, most: int, deep: LanguageModel, task: Task, draw: Draw
) -> None:
    assert count_operations(method, deep, task, draw) <= most
