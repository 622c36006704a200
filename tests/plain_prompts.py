"""Prompts written and read as Transformers' users do, one at a time, for tests that set fewtune against that."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM

from fewtune.engine.language_model import LanguageModel
from fewtune.tasks.base import Example, Pattern


def write_shown(pattern: Pattern, rows: Sequence[Example]) -> str:
    """Demonstrations as they stand before a query."""
    return "".join(f"{pattern.template.format(**row.fields)}{pattern.label_words[row.label or 0]}\n\n" for row in rows)


class PlainReader:
    """A decoder's network in Transformers' own eager attention, asked one prompt at a time."""

    def __init__(self, model: LanguageModel) -> None:
        self.tokenizer = model.tokenizer
        self.network = AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").eval()
        self.network.load_state_dict(model.frozen.state_dict())

    @torch.no_grad()
    def read(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the next token, (vocabulary,), and the last token's state, (width,), float64."""
        ids = [*self.tokenizer.opening, *self.tokenizer.tokenise([prompt])[0]]
        said = self.network(torch.tensor([ids]), output_hidden_states=True)
        return said.logits[0, -1].double(), said.hidden_states[-1][0, -1].double()
