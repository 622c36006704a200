"""The probe reads the states that Transformers itself gives out for each layer, and skips a layer there is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny_models
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.readouts import StateReadout
from fewtune.engine.score import score_prompts
from fewtune.methods import get_method
from fewtune.tasks.base import Draw, Example, Task
from reference_loop import make_plan

ARCHITECTURES = sorted(tiny_models.CONFIGS)
LAYERS = [
    (name, layer) for name in ARCHITECTURES for layer in range(1, tiny_models.CONFIGS[name].num_hidden_layers + 1)
]


class Plain:
    """Transformers' own network and tokenizer, each prompt alone."""

    def __init__(self, folder: Path, task: Task, attention: str = "eager") -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention
        ).eval()
        self.template = task.patterns[0].template

    def tokens(self, rows: list[Example]) -> list[list[int]]:
        return [self.tokenizer(self.template.format(**row.fields)).input_ids for row in rows]

    @torch.no_grad()
    def features(self, rows: list[Example], layer: int) -> np.ndarray:
        """The last token's entry of `hidden_states`, (rows, width): 0 the embeddings, the last after the final norm."""
        passes = [self.network(torch.tensor([t]), output_hidden_states=True) for t in self.tokens(rows)]
        return np.stack([p.hidden_states[layer][0, -1].double().numpy() for p in passes])

    @torch.no_grad()
    def block_outputs(self, rows: list[Example], block: torch.nn.Module) -> np.ndarray:
        """The last token's state as a block puts it out, caught on its way, (rows, width)."""
        seen: list[torch.Tensor] = []
        hook = block.register_forward_hook(lambda *call: seen.append(call[-1]))
        for tokens in self.tokens(rows):
            self.network(torch.tensor([tokens]))
        hook.remove()
        outputs = [s if isinstance(s, torch.Tensor) else s[0] for s in seen]
        return np.stack([o[0, -1].double().numpy() for o in outputs])


def last_block(network: Any) -> torch.nn.Module:
    """The last block by the name each architecture gives it."""
    names = ("model.layers", "transformer.h", "model.decoder.layers")
    (blocks,) = [m for n, m in network.named_modules() if n in names]
    return blocks[-1]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_a_layers_features_are_transformers_own_hidden_states(
    name: str,
    layer: int,
    attention: str,
    models: dict[str, LanguageModel],
    model_folders: dict[str, Path],
    task: Task,
    draw: Draw,
) -> None:
    plain, rows = Plain(model_folders[name], task, attention), list(draw.support)
    plan = make_plan("probe", models[name], task, draw, layer=layer)
    assert plan.forward is not None
    ours = score_prompts(plan.forward, plain.tokens(rows), StateReadout())
    # Transformers' last entry is after the final norm (and OPT-350M's projection), so the last block is caught itself.
    last = layer == tiny_models.CONFIGS[name].num_hidden_layers
    theirs = plain.block_outputs(rows, last_block(plain.network)) if last else plain.features(rows, layer)
    assert ours.shape == theirs.shape == (len(rows), 32)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", [1, None])
def test_predictions_are_a_regression_on_transformers_own_states(
    layer: int | None,
    model_folders: dict[str, Path],
    models: dict[str, LanguageModel],
    task: Task,
    draw: Draw,
) -> None:
    rows = list(draw.test_sets[0].rows)
    for name in ARCHITECTURES:
        plain = Plain(model_folders[name], task)
        theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        entry = -1 if layer is None else layer
        theirs.fit(plain.features(list(draw.support), entry), [e.label for e in draw.support])
        plan = make_plan("probe", models[name], task, draw, layer=layer, inverse_penalty=0.01)
        expected = theirs.predict_proba(plain.features(rows, entry))
        np.testing.assert_allclose(np.exp(plan.score(rows)), expected, atol=1e-3, err_msg=name)
        assert plan.trainable_parameters == theirs[-1].coef_.size + 1, name


def test_layers_differ_in_what_they_predict(model: LanguageModel, task: Task, draw: Draw) -> None:
    rows = draw.test_sets[0].rows
    layers = [None, *range(1, model.config.num_hidden_layers + 1)]
    scores = [make_plan("probe", model, task, draw, layer=layer).score(rows) for layer in layers]
    for i, one in enumerate(scores):
        # OPT-350M norms inside its blocks: after the last nothing but a projection comes.
        assert all(np.abs(one - other).max() > 1e-3 for other in scores[:i])


def test_sharing_a_prefix_changes_no_layers_state(model: LanguageModel, task: Task, draw: Draw) -> None:
    prompts = [[*range(40, 60), 60 + i, *range(9, 9 + i)] for i in range(5)]
    states, tokens = [], []
    for share in (True, False):
        sharing = replace(model, options=EngineOptions(shared_prefix=share))
        forward = make_plan("probe", sharing, task, draw, layer=1).forward
        assert forward is not None
        before = forward.tokens_run
        states.append(score_prompts(forward, prompts, StateReadout()))
        tokens.append(forward.tokens_run - before)
    np.testing.assert_allclose(states[0], states[1], atol=1e-4)
    assert tokens[0] < tokens[1] / 2


def test_reading_a_layer_leaves_no_hook_behind(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    make_plan("probe", models["llama"], task, draw, layer=1).score(draw.support)
    assert not any(module._forward_hooks for module in models["llama"].frozen.modules())


def test_a_layer_there_is_not_is_skipped_saying_so(models: dict[str, LanguageModel], task: Task) -> None:
    method = get_method("probe")
    for layer in (None, 1, 3):
        assert method.skip_reason(method.settings(layer=layer), models["llama"].config, task) is None
    assert method.skip_reason(method.settings(layer=9), models["llama"].config, task) == (
        "layer is 9 and the model has 3 blocks: set 3 or fewer"
    )
