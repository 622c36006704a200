"""Exports a plain model with a small program, where no other tool's classifier format can hold the predictor.

Owns what the program reads: label words of several tokens, several contexts, a prior or an offset where the model has
no place for one, states of a block before the last, prefixes of keys and values; models of words, which need no
language model; and stacks, whose members are programs in folders of their own. The programs themselves are `scripts`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from fewtune.engine.readouts import LabelWordReadout, StateReadout
from fewtune.engine.soft import SoftPrefix, SoftPrompt
from fewtune.errors import PredictorError
from fewtune.exporting.linear import LinearAnswer, read_linear
from fewtune.exporting.merge import merge_network, read_soft_tokens
from fewtune.exporting.virtual_tokens import embed_virtual_tokens
from fewtune.models.architectures import architecture_of
from fewtune.predictors.constant import ConstantScorer
from fewtune.predictors.language import LanguageScorer
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.regression import LOWEST
from fewtune.predictors.stack import StackScorer
from fewtune.predictors.words import WORDS, WordScorer

PROGRAM = "classify.py"
CONTENT = "classifier.json"
_ARRAYS = "classifier.safetensors"


def write_language_program(
    predictor: Predictor, scorer: LanguageScorer, answer: LinearAnswer | None, folder: Path
) -> None:
    """Write a language model, what the program reads of it, and the program.

    `answer` is what reads states where no label words do. Raises PredictorError where the program cannot hold it.
    """
    prompting = scorer.prompting
    forward, encoder, readout = prompting.forward, prompting.encoder, prompting.readout
    words = readout.label_tokens if isinstance(readout, LabelWordReadout) else None
    arrays: dict[str, torch.Tensor] = {}
    if words is None:
        if answer is None:
            raise PredictorError(
                "a label was in no row that this model was fitted on, so that no other tool can hold it."
            )
        arrays |= {"weight": torch.from_numpy(answer.weight), "offset": torch.from_numpy(answer.offset)}
    if isinstance(forward.soft, SoftPrefix):
        arrays["prefix"] = _read_prefix(forward.soft)
    if arrays:
        save_file({name: tensor.contiguous() for name, tensor in arrays.items()}, folder / _ARRAYS)
    vocabulary = _count_words(scorer)
    opening = _write_network(scorer, folder)
    # The linear map of states has the temperature in it already.
    content = _describe(predictor, 1.0 if words is None else predictor.temperature) | {
        "template": prompting.template,
        "compared": prompting.compared,
        "opening": opening,
        "max_tokens": encoder.max_tokens,
        "max_positions": encoder.max_positions + len(opening) - len(encoder.opening),
        "contexts": [
            {"before": context.before, "log_prior": context.log_prior if words is not None else None}
            for context in scorer.contexts
        ],
        "label_tokens": words,
        "vocabulary": vocabulary,
        "per_token": isinstance(readout, LabelWordReadout) and readout.per_token,
        "constrained": isinstance(readout, LabelWordReadout) and readout.over == "continuations",
        "block": forward.block,
        **_describe_architecture(scorer),
    }
    _write(content, "language", folder)


def _count_words(scorer: LanguageScorer) -> int | None:
    """Words that the model can say, before virtual tokens are added to them; None where it says none."""
    head = scorer.prompting.forward.network.get_output_embeddings()
    return None if head is None else int(head.weight.shape[0])


def _describe_architecture(scorer: LanguageScorer) -> dict[str, Any]:
    """Which network it is, what stands around a prompt, and whose state stands for a row."""
    forward, encoder, readout = scorer.prompting.forward, scorer.prompting.encoder, scorer.prompting.readout
    says = "label_words" in forward.architecture.find_abilities(forward.network.config)
    kind = "causal" if forward.architecture.attention == "causal" else "masked" if says else "headless"
    return {
        "network": kind,
        "closing": list(encoder.closing),
        "mask": encoder.mask,
        "pooling": forward.pooling,
        "unit": isinstance(readout, StateReadout) and readout.unit,
    }


def write_word_program(predictor: Predictor, scorer: WordScorer | ConstantScorer, folder: Path) -> None:
    """Write what a model of words knows, and the program."""
    content = _describe(predictor, predictor.temperature)
    if isinstance(scorer, WordScorer):
        weights, offsets = _read_regression(scorer)
        content |= {
            "template": scorer.template,
            "token": WORDS[scorer.words],
            "longest_phrase": scorer.longest_phrase,
            "vocabulary": scorer.vocabulary,
            "inverse_frequencies": scorer.inverse_frequencies.tolist(),
            "weights": weights.tolist(),
            "offsets": offsets.tolist(),
            "lowest": LOWEST,
        }
    else:
        content |= {
            "template": "",
            "token": WORDS["runs"],
            "longest_phrase": 1,
            "vocabulary": [],
            "inverse_frequencies": [],
            "weights": [[]] * len(predictor.labels),
            "offsets": scorer.scores.tolist(),
            "lowest": float(min(LOWEST, scorer.scores.min())),
        }
    _write(content, "words", folder)


def write_stack_program(predictor: Predictor, scorer: StackScorer, folder: Path) -> None:
    """Write a program for each member, how they are pooled, and the program that does so.

    Raises PredictorError naming the member that no program can hold.
    """
    names = []
    for number, member in enumerate(scorer.members, start=1):
        names.append(f"member_{number}")
        place = folder / names[-1]
        place.mkdir()
        with naming_member(number, member):
            if isinstance(member.scorer, (WordScorer, ConstantScorer)):
                write_word_program(member, member.scorer, place)
            else:
                assert isinstance(member.scorer, LanguageScorer)  # no other is a member
                answer = read_linear(member.scorer, member.temperature)
                write_language_program(member, member.scorer, answer, place)
    pooling = {"members": names, "weights": scorer.weights, "bias": scorer.bias, "lowest": LOWEST}
    _write(_describe(predictor, predictor.temperature) | pooling, "stack", folder)


@contextlib.contextmanager
def naming_member(number: int, member: Predictor) -> Iterator[None]:
    """Within it a PredictorError says which member of a stack it is about."""
    try:
        yield
    except PredictorError as error:
        method = f", {member.origin['method']}" if "method" in member.origin else ""
        raise PredictorError(f"of this stack, member {number}{method}: {error}") from error


def _write_network(scorer: LanguageScorer, folder: Path) -> list[int]:
    """Write the language model and its tokenizer; give the tokens that open a prompt, virtual ones too."""
    network, source = merge_network(scorer), scorer.model.tokenizer.source
    opening = list(scorer.prompting.encoder.opening)
    if isinstance(scorer.prompting.forward.soft, SoftPrompt):
        vectors = read_soft_tokens(scorer)
        assert vectors is not None
        # Behind all rows there are, words of no name: `opening` has their ids, and no word of the model's gives way.
        rows = architecture_of(network).find_embeddings(network).num_embeddings
        words = list(range(rows, rows + len(vectors)))
        embed_virtual_tokens(network, words, vectors)
        opening = [*words, *opening]
    network.save_pretrained(str(folder))
    source.save_pretrained(str(folder))
    return opening


def _describe(predictor: Predictor, temperature: float) -> dict[str, Any]:
    least = None if predictor.abstention is None else predictor.abstention.threshold
    return {
        "labels": predictor.labels,
        "fields": predictor.fields,
        "temperature": temperature,
        "abstain_below": least,
    }


def _read_regression(scorer: WordScorer) -> tuple[np.ndarray, np.ndarray]:
    """Weights (labels, features) and offsets (labels,) whose softmax the regression is; labels unseen score lowest."""
    regression = scorer.regression
    weights, offsets = regression.list_classes()
    full = np.zeros((regression.labels, weights.shape[1]))
    low = np.full(regression.labels, 10 * LOWEST)
    full[list(regression.classes)], low[list(regression.classes)] = weights, offsets
    return full, low


def _read_prefix(soft: SoftPrefix) -> torch.Tensor:
    """Keys and values (layers, 2, heads, tokens, features)."""
    with torch.no_grad():
        made = soft.make_prefix()
    return torch.stack([torch.stack([part[0] for part in made.layers[layer]]) for layer in soft.layers]).float().cpu()


def _write(content: dict[str, Any], program: str, folder: Path) -> None:
    (folder / CONTENT).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    source = files("fewtune.exporting.scripts").joinpath(f"{program}.py").read_text(encoding="utf-8")
    (folder / PROGRAM).write_text(source, encoding="utf-8")
