"""BitFit, (IA)³, soft prompts and 4-bit LoRA train as plain Transformers and PEFT loops do, and touch nothing else."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Params4bit
from peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
    initialize_kv_prefix_from_past_key_values,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

import tiny_models
from fewtune.engine import four_bit
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.engine.options import EngineOptions
from fewtune.engine.packing import Prefix
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts
from fewtune.methods import get_method, soft_prompt
from fewtune.methods.plan import Plan
from fewtune.models import find_model, read_config
from fewtune.tasks.base import Draw, Task
from reference_loop import PLAN_SEED, draw_batches, fit_losses, make_plan, train_plainly

STEPS: dict[str, Any] = {"epochs": 3, "batch_size": 4, "schedule": "constant", "warmup_fraction": 0.0}
RATE = 1e-2
SOFT = 5


def seed_torch_as_plans_do() -> None:
    """The first number a plan draws from its generator, as torch's seed."""
    torch.manual_seed(int(np.random.default_rng(PLAN_SEED).integers(2**63)))


@dataclass
class Plain:
    """Transformers' own network and tokenizer, right-padded rows, and a loop as its users write it."""

    folder: Path
    task: Task
    draw: Draw

    def network(self, **load: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=torch.float32, attn_implementation="sdpa", **load
        )

    def losses(self, network: Callable[..., Any], parameters: list[torch.nn.Parameter]) -> list[float]:
        """The loss at each step of fitting label words; `network` may put tokens of its own before the rows."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder, padding_side="right")
        pattern, rows = self.task.patterns[0], self.draw.support
        words = [tokenizer(w, add_special_tokens=False).input_ids[0] for w in pattern.label_words]

        def loss_of(batch: list[int]) -> torch.Tensor:
            prompts = [pattern.template.format(**rows[i].fields) for i in batch]
            inputs = tokenizer(prompts, padding=True, return_tensors="pt")
            logits = network(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
            # Virtual embeddings have logits too, keys and values have none: the rows' own come last either way.
            logits = logits[:, -inputs.input_ids.shape[1] :]
            last = logits[torch.arange(len(batch)), inputs.attention_mask.sum(1) - 1]
            return F.cross_entropy(last[:, words], torch.tensor([rows[i].label for i in batch]))

        return train_plainly(parameters, RATE, draw_batches(len(rows), STEPS), loss_of)


@pytest.fixture(params=["llama", "gpt2", "opt", "opt-350m-shaped"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def plain(name: str, model_folders: dict[str, Path], task: Task, draw: Draw) -> Plain:
    return Plain(model_folders[name], task, draw)


def assert_same_course(plan: Plan, expected: list[float]) -> None:
    losses = fit_losses(plan)
    assert len(losses) == 6 and max(losses) - min(losses) > 1e-3, "nothing was learnt, so nothing is compared"
    # Attention sums in another order here; six steps over 4-bit layers have been seen to make 1.1e-4 of that.
    np.testing.assert_allclose(losses, expected, atol=3e-4)


@pytest.mark.parametrize("name", ["gpt2", "opt", "opt-350m-shaped"], indirect=True)
def test_bitfit_losses_equal_a_plain_loop_over_all_biases(
    name: str, plain: Plain, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan("bitfit", models[name], task, draw, learning_rate=RATE, **STEPS)
    assert plan.forward is not None
    network = plain.network()
    theirs = {n: p for n, p in network.named_parameters() if "bias" in n}
    assert {n for n, p in plan.forward.network.named_parameters() if p.requires_grad} == set(theirs)
    assert_same_course(plan, plain.losses(network, list(theirs.values())))


def test_ia3_losses_equal_a_plain_peft_loop(
    name: str, plain: Plain, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan("ia3", models[name], task, draw, learning_rate=RATE, **STEPS)
    assert plan.forward is not None
    ours = {n: p for n, p in plan.forward.network.named_parameters() if p.requires_grad}
    peft = get_peft_model(plain.network(), IA3Config(task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2"))
    theirs = {n.removeprefix("base_model.model."): p for n, p in peft.named_parameters() if p.requires_grad}
    assert set(theirs) == set(ours)
    for key, value in theirs.items():
        assert torch.equal(value, ours[key]) and torch.equal(value, torch.ones_like(value)), key
    assert_same_course(plan, plain.losses(peft, list(theirs.values())))


# PEFT hands its prefix to the network by an old name.
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("start", ["vocabulary", "random"])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_soft_prompt_losses_equal_a_plain_peft_loop_from_the_same_start(
    kind: str, start: str, name: str, plain: Plain, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    settings = {"kind": kind, "start": start, "tokens": SOFT, "learning_rate": RATE}
    plan = make_plan("soft_prompt", models[name], task, draw, **settings, **STEPS)
    assert plan.fitting is not None
    (ours,) = plan.fitting.groups[0].parameters
    config = (
        PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=SOFT,
            prompt_tuning_init="SAMPLE_VOCAB" if start == "vocabulary" else "RANDOM",
        )
        if kind == "prompt"
        else PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=SOFT)
    )
    if kind == "prompt":  # PEFT takes the layers' width for the embeddings', and draws unused numbers of that width
        config.token_dim = models[name].frozen.get_input_embeddings().embedding_dim
    network = plain.network()
    with torch.random.fork_rng():
        seed_torch_as_plans_do()
        peft = get_peft_model(network, config)
        drawn = torch.randint(0, tiny_models.VOCABULARY, (1, SOFT))
    if (kind, start) == ("prefix", "vocabulary"):
        with torch.no_grad():
            cache = network(input_ids=drawn, use_cache=True).cache
        initialize_kv_prefix_from_past_key_values(peft, past_key_values=cache)
    (theirs,) = [p for p in peft.parameters() if p.requires_grad]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert_same_course(plan, plain.losses(peft, [theirs]))


FOUR_BIT = ["llama", "opt", "opt-350m-shaped"]


@pytest.fixture(scope="session")
def wide_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models of 64 columns and more: of fewer, bitsandbytes multiplies wrongly on a CPU."""
    root = tmp_path_factory.mktemp("wide")
    return {name: tiny_models.save(name, root / name, times_wider=4) for name in FOUR_BIT}


@pytest.mark.parametrize("name", FOUR_BIT)
def test_four_bit_lora_losses_equal_peft_on_a_base_that_transformers_quantised(
    name: str, wide_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    plain = Plain(wide_folders[name], task, draw)
    model = load_model(find_model(str(wide_folders[name])), "float32")
    plan = make_plan("lora", model, task, draw, base="4bit", learning_rate=RATE, **STEPS)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    network = plain.network(quantization_config=quantised, device_map="cpu")
    with torch.random.fork_rng():
        seed_torch_as_plans_do()
        config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear")
        peft = get_peft_model(network, config)
    peft.train()  # in evaluation mode bitsandbytes would repack the matrices on some CPUs
    assert_same_course(plan, plain.losses(peft, [p for p in peft.parameters() if p.requires_grad]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FOUR_BIT)
def test_a_four_bit_base_is_quantised_and_frozen_and_loses_little(
    name: str, precision: Any, wide_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    model = load_model(find_model(str(wide_folders[name])), precision)
    # Checking an epoch in evaluation mode between two of training must not change how the base is held.
    settings = {**STEPS, "learning_rate": RATE, "validation_fraction": 0.25}
    plan = make_plan("lora", model, task, draw, base="4bit", **settings)
    full = make_plan("lora", model, task, draw, **settings)
    assert plan.forward is not None and plan.fitting is not None
    network = plan.forward.network
    packed = {n: p for n, p in network.named_parameters() if isinstance(p, Params4bit)}
    linear = {n: m for n, m in model.frozen.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    assert {n.replace("base_layer.", "").removesuffix(".weight") for n in packed} == set(linear)
    for key, parameter in packed.items():
        own = linear[key.replace("base_layer.", "").removesuffix(".weight")].weight
        assert not parameter.requires_grad and parameter.quant_state.quant_type == "nf4"
        assert parameter.dtype == torch.uint8 and parameter.numel() * 2 == own.numel()
        theirs = dequantize_4bit(*quantize_4bit(own.detach(), quant_type="nf4", compress_statistics=True))
        held = dequantize_4bit(parameter.data, parameter.quant_state)
        torch.testing.assert_close(held, theirs, rtol=0, atol=0)
        assert 0 < (held - own).float().norm() / own.float().norm() < 0.12
    trained = [p for p in network.parameters() if p.requires_grad]
    assert {n.split(".")[-3] for n, p in network.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    assert all(p.dtype == torch.float32 for p in trained)
    assert plan.trainable_parameters == full.trainable_parameters == sum(p.numel() for p in trained)
    assert plan.total_parameters == full.total_parameters == model.total_parameters + plan.trainable_parameters
    before = {n: p.detach().clone() for n, p in network.named_parameters() if not p.requires_grad}
    moved = [p.detach().clone() for p in trained]
    losses, full_losses = fit_losses(plan), fit_losses(full)
    assert 0 < abs(losses[0] - full_losses[0]) < max(0.3, 0.15 * full_losses[0])
    assert not any(torch.equal(p, was) for p, was in zip(trained, moved, strict=True))
    after = dict(network.named_parameters())
    assert all(torch.equal(after[n], p) for n, p in before.items())
    scores = plan.score(draw.test_sets[0].rows)
    assert np.isfinite(scores).all()
    again = make_plan("lora", model, task, draw, base="4bit", **settings)
    assert fit_losses(again) == losses
    np.testing.assert_array_equal(again.score(draw.test_sets[0].rows), scores)


def test_a_four_bit_base_is_skipped_saying_why(
    models: dict[str, LanguageModel], wide_folders: dict[str, Path], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = get_method("lora")
    settings = method.settings(base="4bit")
    for folder in wide_folders.values():
        assert method.skip_reason(settings, read_config(folder), task) is None
    reason = method.skip_reason(settings, models["llama"].config, task)
    # Whether a CPU's instructions are among those that bitsandbytes 0.50 gets wrong depends on the machine.
    assert reason is None or reason.startswith(
        "base 4bit cannot be used, bitsandbytes multiplies matrices of 32, 48 columns wrongly on this machine's cpu"
    )
    assert method.skip_reason(settings, models["gpt2"].config, task) == (
        "base 4bit cannot be used, model type 'gpt2' keeps its matrices in Conv1D, which is no linear layer: "
        "set base to full"
    )

    def fail(*_: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(four_bit, "_quantise", fail)
    assert method.skip_reason(settings, models["llama"].config, task) == (
        "base 4bit cannot be used, bitsandbytes does not run on this machine's cpu (RuntimeError: no kernel): "
        "set base to full"
    )

    def run_out(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(four_bit, "_quantise", run_out)
    with pytest.raises(torch.OutOfMemoryError):  # other work fills the device: that says nothing of what it can do
        method.skip_reason(settings, models["llama"].config, task)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert method.skip_reason(settings, models["llama"].config, task) == (
        "base 4bit needs bitsandbytes, which is not installed: pip install 'fewtune[4bit]' "
        "(from a clone: pip install '.[4bit]')"
    )
    assert method.skip_reason(method.settings(), models["gpt2"].config, task) is None


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("words", [[[70], [71]], [[70], [71, 72]]])
def test_sharing_a_text_prefix_behind_soft_tokens_changes_no_score(
    kind: str, words: list[list[int]], model: LanguageModel, task: Task, draw: Draw
) -> None:
    prompts = [[*range(40, 60), 60 + i, *range(9, 9 + i)] for i in range(5)]
    scores, tokens = [], []
    for share in (True, False):
        sharing = replace(model, options=EngineOptions(shared_prefix=share))
        plan = make_plan("soft_prompt", sharing, task, draw, kind=kind, tokens=SOFT)
        assert plan.forward is not None
        scores.append(score_prompts(plan.forward, prompts, LabelWordReadout(words)))
        tokens.append(plan.forward.tokens_run)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert tokens[0] < tokens[1] / 2
    bare = score_prompts(type(plan.forward)(model.frozen, "float32"), prompts, LabelWordReadout(words))
    assert np.abs(bare - scores[0]).max() > 1e-2, "soft tokens must matter"


@pytest.mark.parametrize(
    ("method", "settings"),
    [("bitfit", {}), ("ia3", {}), ("soft_prompt", {"kind": "prompt"}), ("soft_prompt", {"kind": "prefix"})],
    ids=str,
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_trains_is_held_in_float32_and_all_else_stays_bit_identical(
    method: str, settings: dict[str, Any], precision: Any, model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    model = load_model(find_model(str(model_folders["gpt2"])), precision)
    plan = make_plan(method, model, task, draw, learning_rate=RATE, **STEPS, **settings)
    assert plan.fitting is not None and plan.forward is not None
    trained = {id(p): p.detach().clone() for g in plan.fitting.groups for p in g.parameters}
    assert all(p.dtype == torch.float32 for p in trained.values())
    fit_losses(plan)
    moved = [not torch.equal(p, trained[id(p)]) for g in plan.fitting.groups for p in g.parameters]
    assert sum(moved) > len(moved) / 2
    before = dict(model.frozen.named_parameters())
    for name, parameter in plan.forward.network.named_parameters():
        if id(parameter) not in trained:
            assert torch.equal(parameter, before[name.replace("base_layer.", "")]), name
    assert any(p.dtype == torch.bfloat16 for p in before.values()) == (precision == "bfloat16")
    own = [p for p in plan.forward.network.parameters() if id(p) not in trained]
    assert plan.total_parameters == sum(p.numel() for p in [*own, *trained.values()])


def test_a_model_without_biases_skips_bitfit_saying_so(models: dict[str, LanguageModel], task: Task) -> None:
    method = get_method("bitfit")
    for readout in ("label_words", "head"):
        assert method.skip_reason(method.settings(readout=readout), models["opt"].config, task) is None
        assert method.skip_reason(method.settings(readout=readout), models["llama"].config, task) == (
            "model type 'llama' has no biases, and they are all that bitfit trains: use a model that has them "
            "(OPT, GPT-2), or ia3, which trains as few parameters"
        )


def test_an_architecture_peft_does_not_know_skips_ia3_saying_which_it_knows(
    models: dict[str, LanguageModel], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = get_method("ia3")
    assert method.skip_reason(method.settings(), models["llama"].config, task) is None
    monkeypatch.setattr(models["llama"].config, "model_type", "abacus")
    reason = method.skip_reason(method.settings(), models["llama"].config, task)
    assert reason is not None
    assert reason.startswith("PEFT names no (IA)³ layers for model type 'abacus', only for bart, bert, bloom, ")
    assert reason.endswith(": use one of these, or lora")


def test_soft_tokens_that_leave_no_room_are_a_reason_to_skip(models: dict[str, LanguageModel], task: Task) -> None:
    method = get_method("soft_prompt")
    assert method.skip_reason(method.settings(tokens=64), models["opt"].config, task) is None
    reason = method.skip_reason(method.settings(tokens=65), models["opt"].config, task)
    assert reason == "tokens is 65 and the model reads 128: set 64 or fewer, to leave as much room for a row"


def test_layers_of_several_shapes_skip_a_prefix_and_not_a_prompt(
    models: dict[str, LanguageModel], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = get_method("soft_prompt")
    assert soft_prompt._key_value_shapes(Prefix(1, {0: (torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 8))})) == {
        (2, 4),
        (2, 8),
    }
    monkeypatch.setattr("fewtune.engine.soft.find_layer_shapes", lambda network: {0: (2, 4), 1: (2, 8)})
    assert method.skip_reason(method.settings(kind="prompt"), models["llama"].config, task) is None
    assert method.skip_reason(method.settings(kind="prefix"), models["llama"].config, task) == (
        "the model's layers keep keys and values of 2 shapes, and PEFT's prefix has one: set kind to prompt"
    )


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_rows_are_shortened_to_the_positions_that_soft_tokens_leave(
    kind: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan("soft_prompt", models["opt"], task, draw, kind=kind, tokens=60, epochs=1)
    long = type(draw.support[0])("long", {"text": "the cook works like a charm " * 40}, None)
    assert np.isfinite(plan.score([long])).all()
    assert plan.report().prompt.cut.rows == 1


def test_each_kind_has_a_rate_of_its_own_and_the_head_another(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    def rates(**settings: Any) -> list[tuple[str, float]]:
        fitting = make_plan("soft_prompt", models["llama"], task, draw, **settings).fitting
        assert fitting is not None
        return [(g.name, g.learning_rate) for g in fitting.groups]

    assert rates() == [("soft prompt", 0.03)]
    assert rates(kind="prefix") == [("soft prefix", 0.01)]
    assert rates(learning_rate=0.05, readout="head") == [("soft prompt", 0.05), ("head", 0.001)]


@pytest.mark.parametrize(
    ("method", "architecture", "settings"),
    [
        ("bitfit", "opt", {"learning_rate": 0.05}),
        ("ia3", "llama", {"learning_rate": 0.1}),
        ("soft_prompt", "llama", {}),
        ("soft_prompt", "llama", {"kind": "prefix", "learning_rate": 0.1}),
    ],
    ids=str,
)
def test_a_support_is_learnt(
    method: str, architecture: str, settings: dict[str, Any], models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(method, models[architecture], task, draw, epochs=40, batch_size=4, **settings)
    losses = fit_losses(plan)
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) / 2
    assert (plan.score(draw.support).argmax(1) == [e.label for e in draw.support]).all()
