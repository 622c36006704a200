"""Exports a predictor as an ONNX graph from token ids to logits, for ONNX Runtime.

Owns what the graph holds that no saved classifier does: offsets a label, and answers from a block before the last.
Source: Transformers' exporter, https://huggingface.co/docs/transformers/main/en/main_classes/exporters
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from fewtune.errors import PredictorError, format_install
from fewtune.exporting.classifier import ExportedClassifier, read_pad, start_classifier
from fewtune.exporting.linear import LinearAnswer
from fewtune.exporting.reread import check_reread
from fewtune.models.architectures import architecture_of
from fewtune.predictors.language import LanguageScorer
from fewtune.system.failure_kinds import find_system_error

GRAPH = "model.onnx"
ROWS_AT_ONCE = 16
"""Rows that an export is asked at once where it is compared."""


def build_graph_source(scorer: LanguageScorer, answer: LinearAnswer, labels: Sequence[str]) -> ExportedClassifier:
    """The network that becomes a graph: a classifier whose head has offsets, cut behind the block that is read."""
    made = start_classifier(scorer, labels)
    if scorer.prompting.forward.block is not None:
        _cut_behind(made.model, scorer.prompting.forward.block)
    head = nn.Linear(answer.weight.shape[1], len(labels))
    head.weight.data = torch.from_numpy(answer.weight).float()
    head.bias.data = torch.from_numpy(answer.offset).float()
    held: Any = made.model
    held.score = head
    held.config.use_cache = False
    return made


def write_graph(classifier: ExportedClassifier, folder: Path) -> None:
    """Write a classifier as an ONNX graph with its tokenizer.

    Raises PredictorError where the exporter's packages are missing, or it fails on this model.
    """
    try:
        from transformers.exporters.configs import OnnxConfig
        from transformers.exporters.exporter_onnx import OnnxExporter
    except ImportError as error:
        raise PredictorError(
            f"ONNX needs a newer Transformers, and the packages onnx, onnxscript, onnxruntime: "
            f"{format_install('onnx')}."
        ) from error
    check_reread(classifier.tokenizer, classifier.model.config)
    classifier.tokenizer.save_pretrained(str(folder))
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, read_pad(classifier.tokenizer)]])
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])}
    with _quietly():
        try:
            exported = OnnxExporter().export(classifier.model, given, config=OnnxConfig(dynamic=True))
            exported.save_pretrained(str(folder))
        except Exception as error:  # the exporter traces code that it does not own: it fails in as many ways
            if isinstance(error, OSError) or find_system_error(error) is not None:
                raise
            told = " ".join(f"{type(error).__name__}: {error}".split())
            raise PredictorError(f"this model could not be written as ONNX: {told[:300]}") from error


def read_graph(folder: Path, fields: Sequence[str], rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Probabilities (rows, labels) by ONNX Runtime."""
    from transformers import AutoTokenizer

    try:
        import onnxruntime
    except ImportError as error:
        raise PredictorError(f"ONNX graphs are checked by onnxruntime: {format_install('onnx')}.") from error

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    found = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        texts = [[row[name] for row in part] for name in fields]
        given = tokenizer(*texts, padding=True, truncation=True, return_tensors="np")
        [logits] = session.run(["logits"], {name: given[name] for name in ("input_ids", "attention_mask")})
        found.append(torch.from_numpy(logits).double().softmax(-1).numpy())
    return np.concatenate(found)


def _cut_behind(model: PreTrainedModel, block: int) -> None:
    """Leave out the blocks behind one, counted from 1, and all that stands between its output and the head."""
    architecture = architecture_of(model)
    norm = architecture.find_final_norm(model)
    blocks = architecture.find_blocks(model)
    del blocks[block:]
    model.config.num_hidden_layers = block
    for name, module in list(model.named_modules()):
        if module is norm or name.endswith("project_out"):
            model.set_submodule(name, nn.Identity())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Within it the exporter tells its steps to nobody: they are no user's to follow."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
