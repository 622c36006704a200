"""Rebuilds a saved language model scorer on its base model.

Owns what manifest, tensors and base model must have in common before a row is read, so that nothing of it comes to
light in the middle of answers. What of the network differs from the base is `network`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import HeadReadout, NearnessReadout, Readout, StateReadout
from fewtune.errors import DataError, PredictorError
from fewtune.models.architectures.base import Ability
from fewtune.predictors.compared import count_features
from fewtune.predictors.language import LanguageScorer, Prompting, encode_rows, find_by_states, read_words
from fewtune.predictors.manifest import (
    COPY_ANEW,
    HeadPart,
    LabelWordsPart,
    LanguagePart,
    NeighboursPart,
    RegressionPart,
    SoftTokensPart,
)
from fewtune.predictors.nearest import NearestDemonstrations
from fewtune.predictors.neighbours import Neighbours
from fewtune.predictors.network import list_change_forms, rebuild_forward
from fewtune.predictors.regression import Regression
from fewtune.predictors.tensors import FLOAT32, TensorFile, TensorForm
from fewtune.prompts.tokens import Encoder
from fewtune.tasks.base import Example

LACKING: dict[Ability, str] = {
    "label_words": "the base says no words",
    "reads_on": "the base is an encoder, whose rows read nothing that stands before them",
}


def rebuild_language(
    part: LanguagePart, labels: int, fields: Sequence[str], tensors: TensorFile, folder: Path, model: LanguageModel
) -> LanguageScorer:
    """The scorer that was saved with files in a folder, on its base model, which is not changed.

    Raises PredictorError where what the manifest says, the folder's tensors and the model do not go together.
    """
    _check_model(part, model, folder)
    arrays = tensors.read(_list_forms(part, labels, folder, model, tensors.forms))
    forward, change = rebuild_forward(part.network, arrays, folder, model, part.block)
    encoder = Encoder(model.tokenizer, part.max_tokens, part.max_positions)
    reader: Regression | Neighbours | None = None
    readout: Readout
    if isinstance(part.readout, RegressionPart):
        reader, readout = Regression.rebuild(part.readout, arrays), StateReadout(part.readout.unit)
    elif isinstance(part.readout, NeighboursPart):
        reader = Neighbours.rebuild(part.readout, arrays)
        readout = NearnessReadout(reader.anchors, reader.by)
    elif isinstance(part.readout, HeadPart):
        weight = torch.from_numpy(arrays["head.weight"]).to(model.device)
        head: torch.nn.Linear = torch.nn.utils.skip_init(torch.nn.Linear, *weight.shape[::-1], bias=False)
        head.weight.data = weight
        readout = HeadReadout(head)
    else:
        readout = read_words(encoder, part.readout.tokens, part.readout.over, part.readout.per_token)
    prompting = Prompting(forward, encoder, part.template, readout, part.compared)
    near: NearestDemonstrations | None = None
    if part.contexts[0].nearest is not None:
        near = find_by_states(part.contexts[0].nearest, arrays["nearest.states"], prompting)
    _check_room(part, fields, prompting, folder)
    return LanguageScorer(model, prompting, change, part.contexts, reader, near)


def _check_model(part: LanguagePart, model: LanguageModel, folder: Path) -> None:
    """Raise PredictorError naming the first field of a manifest that asks for what its base model has not."""
    words = isinstance(part.readout, LabelWordsPart) or (
        isinstance(part.readout, NeighboursPart) and part.readout.by == "vocabulary"
    )
    soft = part.network.tokens if isinstance(part.network, SoftTokensPart) else 0
    needs: dict[Ability, bool] = {
        "label_words": words,
        "reads_on": soft > 0 or any(context.before or context.nearest for context in part.contexts),
    }
    able = model.architecture.find_abilities(model.config)
    lacking = [LACKING[ability] for ability, needed in needs.items() if needed and ability not in able]
    if lacking:
        raise PredictorError(f"{folder}: its manifest is of another kind of model than its base: {lacking[0]}.")
    blocks = len(model.architecture.find_blocks(model.networks.sketch)) if part.block is not None else 0
    tokens = [max(word) for word in part.readout.tokens] if isinstance(part.readout, LabelWordsPart) else [0]
    for field, given, most in (
        ("block", part.block or 0, blocks),
        ("max_positions", part.max_positions, model.max_positions - soft),
        ("readout.tokens", max(tokens), min(_count_words(model), _count_embeddings(model)) - 1 if words else 0),
    ):
        if given > most:
            raise PredictorError(
                f"{folder}: {field} of its manifest is {given}, and its base model has {most}. {COPY_ANEW}"
            )


def _list_forms(
    part: LanguagePart, labels: int, folder: Path, model: LanguageModel, there: Collection[str]
) -> dict[str, TensorForm]:
    """The tensors of a scorer on a base model, but for those of an adapter."""
    width = model.width if part.block is None else int(model.config.hidden_size)
    forms = list_change_forms(part.network, folder, model)
    if isinstance(part.readout, RegressionPart):
        features = width if part.compared is None else count_features(width)
        forms |= Regression.list_forms(part.readout, features, there)
    elif isinstance(part.readout, NeighboursPart):
        forms |= Neighbours.list_forms(part.readout, _count_words(model) if part.readout.by == "vocabulary" else width)
    elif isinstance(part.readout, HeadPart):
        forms["head.weight"] = TensorForm((labels, width), FLOAT32)
    nearest = part.contexts[0].nearest
    if nearest is not None:
        forms["nearest.states"] = TensorForm((len(nearest.texts), width))
    return forms


def _check_room(part: LanguagePart, fields: Sequence[str], prompting: Prompting, folder: Path) -> None:
    """Raise PredictorError where a row would find no room behind what stands before it, however short it is."""
    blank = Example("a blank row", dict.fromkeys(fields, ""), None)
    for context in part.contexts:
        before = context.before
        if context.nearest is not None:  # the longest may be the nearest
            texts = [text + context.nearest.separator for text in context.nearest.texts]
            before = "".join(sorted(texts, key=len)[-context.nearest.count :])
        try:
            for template in filter(None, (prompting.template, prompting.compared)):
                encode_rows(prompting.encoder, template, prompting.readout, [blank], before)
        except DataError as error:
            raise PredictorError(f"{folder}: no row can be read as its manifest says: {error}") from error


def _count_words(model: LanguageModel) -> int:
    """Tokens that a model's head says."""
    head: Any = model.architecture.find_head(model.networks.sketch)
    return len(head.weight)


def _count_embeddings(model: LanguageModel) -> int:
    """Tokens that a model reads."""
    return len(model.architecture.find_embeddings(model.networks.sketch).weight)
