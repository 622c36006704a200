"""What is answered and by what: short made-up rows, and one classifier saved as fewtune and as Transformers have it.

Owns both. The classifier has a random head: how right it is does not matter, only that both sides run the same.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.engine.readouts import HeadReadout
from fewtune.models import find_model, resolve_precision
from fewtune.predictors.language import LanguageScorer, Prompting
from fewtune.predictors.network import Unchanged
from fewtune.predictors.predictor import Predictor
from fewtune.prompts.tokens import Encoder

LABELS = ("billing", "delivery", "praise", "repairs")
PHRASES = (
    "where is my parcel",
    "the lamp does not start",
    "thank you for the quick answer",
    "my invoice is wrong again",
    "it came late and the box was open",
    "can I change the address of an order that I placed this morning",
    "the screen went dark after a day of use and I should like it repaired or replaced",
)


def write_rows(path: Path, count: int) -> None:
    """A CSV file of so many rows of 5 to 20 words, none like another."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text"])
        writer.writerows([f"{PHRASES[number * 5 % len(PHRASES)]}, order {number}"] for number in range(count))


def save_classifier(name: str, predictor: Path, exported: Path) -> None:
    """A frozen model with a linear head on the last token: as `fewtune predict` and as Transformers read it."""
    snapshot = find_model(name)
    model = load_model(snapshot, resolve_precision("auto"))
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(len(LABELS), model.width, generator=generator)
    _hang_head(model, weight).save(predictor)
    tokenizer: Any = AutoTokenizer.from_pretrained(snapshot.path)
    network: Any = AutoModelForSequenceClassification.from_pretrained(
        snapshot.path, num_labels=len(LABELS), id2label=dict(enumerate(LABELS)), dtype=torch.float32
    )
    network.score.weight.data = weight
    network.config.pad_token_id = tokenizer.pad_token_id
    network.save_pretrained(exported)
    tokenizer.save_pretrained(exported)


def _hang_head(model: LanguageModel, weight: torch.Tensor) -> Predictor:
    head: torch.nn.Linear = torch.nn.utils.skip_init(torch.nn.Linear, *weight.shape[::-1], bias=False)
    head.weight.data = weight.to(model.device)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    prompting = Prompting(model.forward(model.frozen), encoder, "{text}", HeadReadout(head.requires_grad_(False)))
    return Predictor(LABELS, ("text",), LanguageScorer(model, prompting, Unchanged()))
