"""Checks a network of an untried type: packed rows must give what its own pass gives for each row alone.

Owns what is compared and how near it has to be. A class may read a row in a way that neither its configuration nor
fewtune's attention knows: a bias that comes as a mask, attention that runs twice a layer, a layer before the words.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from fewtune.engine.forward import SHORTEST_PREFIX
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import NextTokenReadout
from fewtune.engine.score import score_prompts
from fewtune.errors import ModelError
from fewtune.system.failure_kinds import find_failure_kind

LARGEST_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Of log-probabilities of the next token, on average over the vocabulary: what is read wrongly is off by far more."""


def check_untried(model: LanguageModel, read_own: Callable[[], PreTrainedModel]) -> None:
    """Raise ModelError where a decoder's packed rows, behind a shared opening or not, give otherwise than its own pass.

    `read_own` reads its network as Transformers runs it.
    """
    rng = np.random.default_rng(0)
    words = [rng.integers(model.config.vocab_size, size=size).tolist() for size in (SHORTEST_PREFIX + 4, 3, 7, 12)]
    opening, *rows = [row[: model.max_positions // 2] for row in words]
    kind = f"model {model.name!r} is of type {model.config.model_type!r}"
    try:
        forward, network = model.forward(model.frozen), read_own().eval()
        for prompts in (rows, [[*opening, *row] for row in rows]):
            found = score_prompts(forward, prompts, NextTokenReadout())
            difference = float(np.abs(found - _run_alone(network, prompts)).mean())
            if not difference <= LARGEST_DIFFERENCE[model.precision]:
                raise ModelError(
                    f"{kind}, whose words fewtune does not reproduce: packed, log-probabilities differ from its own "
                    f"pass by {difference:.2g} on average. Use another type, such as Llama, Qwen, OPT or GPT-2."
                )
    except ModelError:
        raise
    except Exception as error:  # a class that is called otherwise than it expects fails in any way
        if find_failure_kind(error) == "out_of_memory":
            raise
        raise ModelError(
            f"{kind}, which cannot run packed rows ({type(error).__name__}: {error}). Use another type, such as Llama, "
            "Qwen, OPT or GPT-2."
        ) from error


@torch.no_grad()
def _run_alone(network: PreTrainedModel, prompts: list[list[int]]) -> np.ndarray:
    """Log-probabilities (prompts, vocabulary) of the next token, each prompt in a pass of its own."""
    logits = [network(input_ids=torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
    return torch.stack(logits).double().log_softmax(-1).numpy()
