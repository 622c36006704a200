"""Exports a saved model and compares the export with the original before handing it over.

Owns which form a model takes: a PEFT adapter, Transformers' sequence classifier, or a plain model with a small program;
and that an export which answers otherwise is never left behind. All compute in float32.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fewtune.errors import PredictorError
from fewtune.exporting.base_model import BaseModel, find_base
from fewtune.exporting.program import naming_member, write_language_program, write_stack_program, write_word_program
from fewtune.exporting.prompt_tokenizer import PROBES
from fewtune.models.quiet import quiet_transformers
from fewtune.predictors.constant import ConstantScorer
from fewtune.predictors.language import LanguageScorer
from fewtune.predictors.manifest import LanguagePart
from fewtune.predictors.model_folder import check_free, load_predictor, read_manifest
from fewtune.predictors.neighbours import Neighbours
from fewtune.predictors.network import Adapter
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.stack import StackScorer, list_scorers
from fewtune.predictors.temperature import normalise
from fewtune.predictors.words import WordScorer
from fewtune.records import fill_atomically

Form = Literal["adapter", "classifier", "sentence_transformer", "program"]
ONNX = "onnx"
"""The folder of the ONNX graph."""
LARGEST_DIFFERENCE = 1e-3
"""Of a probability: an export that differs by more is refused. Rounding in another order costs some 1e-5."""


@dataclass(frozen=True)
class Export:
    """What was written: its form, the texts that it takes in order, and how near its probabilities are.

    `reason` says why it is no sequence classifier, where it is none.
    """

    form: Form
    fields: tuple[str, ...]
    reason: str | None = None
    base: BaseModel | None = None
    """What the adapter is put onto, where it is one."""
    rows: int = 0
    difference: float = 0.0


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported."""

    merge: bool = False
    """Adapters are merged into a whole model."""
    onnx: bool = False
    """An ONNX graph is written too, into a folder of its own."""
    base: str | None = None
    """Where the base model lies; None: the name it was fitted under."""


def export_model(
    folder: Path, out: Path, options: ExportOptions = ExportOptions(), rows: Sequence[Mapping[str, str]] = ()
) -> Export:
    """Write a saved model for other tools into a new folder, whole or not at all; raises as `exporting`."""
    with exporting(folder, out, options, rows) as (_, made):
        return made


@contextlib.contextmanager
def exporting(
    folder: Path, out: Path, options: ExportOptions = ExportOptions(), rows: Sequence[Mapping[str, str]] = ()
) -> Iterator[tuple[Path, Export]]:
    """A saved model written for other tools, in a folder that more may be written into, and what was written.

    It stands as `out` once this ends without an error; else nothing is there. `rows` are compared beside texts of all
    kinds. Raises PredictorError where the model cannot be loaded, held in any form, where the export answers otherwise,
    or `out` is neither new nor empty; UnwrittenError where it cannot be written.
    """
    check_free(out)
    predictor = load_predictor(folder, options.base, precision="float32")
    _refuse_formless(predictor)
    compared, expected = _answer([*rows, *_make_rows(predictor.fields)], predictor)
    with fill_atomically(out) as finished:
        with quiet_transformers():
            if options.onnx:
                _write_onnx(predictor, finished / ONNX, compared, expected)
            written = _write(predictor, folder, finished, options)
            got = read_export(finished, written, predictor.labels, compared)
        yield finished, replace(written, rows=len(compared), difference=_compare(got, expected))


def _compare(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of two arrays of probabilities; raises PredictorError where it is too large."""
    difference = float(np.abs(found - expected).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise PredictorError(
            f"the export answers otherwise than the model: probabilities differ by up to {difference:.2g} in "
            f"{len(expected)} rows. Nothing was written; please report this model's type."
        )
    return difference


def _write_onnx(predictor: Predictor, folder: Path, rows: Sequence[Mapping[str, str]], expected: np.ndarray) -> None:
    """Write an ONNX graph that answers rows as expected; raises PredictorError where there is none such."""
    from fewtune.exporting.linear import read_linear
    from fewtune.exporting.onnx_model import build_graph_source, read_graph, write_graph

    scorer = predictor.scorer
    answer = read_linear(scorer, predictor.temperature) if isinstance(scorer, LanguageScorer) else None
    causal = isinstance(scorer, LanguageScorer) and scorer.model.architecture.attention == "causal"
    linear = answer is not None and not answer.unit and causal
    if answer is None or not linear or not isinstance(scorer, LanguageScorer) or scorer.prompting.encoder.closing:
        raise PredictorError(
            "this model has no ONNX form: only answers that are one linear map of a decoder's state have, not label "
            "words of several tokens or contexts, chat templates, embeddings, a model of words or a stack. Leave "
            "--onnx out; in_context has one with `contexts: 1`."
        )
    folder.mkdir()
    source = build_graph_source(scorer, answer, predictor.labels)
    write_graph(source, folder)
    _compare(read_graph(folder, source.fields, rows), expected)


def _answer(rows: Sequence[Mapping[str, str]], predictor: Predictor) -> tuple[list[Mapping[str, str]], np.ndarray]:
    """Rows that tools read as the model does, and their probabilities.

    Each cuts those that are too long in its own way; where a text holds one of the model's special tokens, spaces
    around that are lost, and one that the network does not know is none to fewtune alone.
    """
    expected = predictor.predict_probabilities(rows)
    kept = list(range(len(rows)))
    for scorer in list_scorers(predictor.scorer).values():
        if not isinstance(scorer, LanguageScorer):
            continue
        encoder = scorer.prompting.encoder
        cut = set(encoder.list_cut())
        texts = [encoder.tokenise([row[name] for name in predictor.fields]) for row in rows]
        special = [any(not encoder.special_tokens.isdisjoint(tokens) for tokens in each) for each in texts]
        unknown = scorer.model.tokenizer.unknown.values()
        spelt = [any(word in row[name] for word in unknown for name in predictor.fields) for row in rows]
        kept = [place for place in kept if f"row {place + 1}" not in cut and not special[place] and not spelt[place]]
    return [rows[place] for place in kept], expected[kept]


def _make_rows(fields: Sequence[str]) -> list[dict[str, str]]:
    shifted = [PROBES[place:] + PROBES[:place] for place in range(len(fields))]
    return [dict(zip(fields, texts, strict=True)) for texts in zip(*shifted, strict=True)]


def _refuse_formless(predictor: Predictor) -> None:
    """Raise PredictorError where no form answers as the model does."""
    scorer = predictor.scorer
    if isinstance(scorer, StackScorer):
        for number, member in enumerate(scorer.members, start=1):
            with naming_member(number, member):
                _refuse_formless(member)
        return
    if isinstance(scorer, (WordScorer, ConstantScorer)):
        return
    if not isinstance(scorer, LanguageScorer):
        raise PredictorError(f"{type(scorer).__name__} has no form that other tools load.")
    predictor.check_answers_alone()
    if scorer.nearest is not None:
        raise PredictorError(
            "before each row stand the demonstrations nearest to it (selection: nearest), which no exported form looks "
            "for. `fewtune serve` and `predict` do; or fit it with selection: random."
        )
    if isinstance(scorer.reader, Neighbours):
        raise PredictorError(
            "labelled rows near each row vote (knn_prompting), which no exported form lets them. `fewtune serve` and "
            "`predict` do; or fit in_context."
        )


def _write(predictor: Predictor, folder: Path, out: Path, options: ExportOptions) -> Export:
    scorer = predictor.scorer
    if isinstance(scorer, StackScorer):
        write_stack_program(predictor, scorer, out)
        return Export("program", predictor.fields)
    if isinstance(scorer, (WordScorer, ConstantScorer)):
        write_word_program(predictor, scorer, out)
        return Export("program", predictor.fields)
    assert isinstance(scorer, LanguageScorer)  # others have no form
    return _write_language(predictor, scorer, folder, out, options)


def _write_language(
    predictor: Predictor, scorer: LanguageScorer, folder: Path, out: Path, options: ExportOptions
) -> Export:
    from fewtune.exporting.adapter import write_adapter
    from fewtune.exporting.classifier import build_classifier
    from fewtune.exporting.linear import read_linear
    from fewtune.exporting.sentence_transformer import write_sentence_transformer

    answer = read_linear(scorer, predictor.temperature)
    change = scorer.change
    try:
        if scorer.model.architecture.attention != "causal":
            if answer is None:
                raise PredictorError("its base model is an encoder, and what it says is no linear map of one state.")
            write_sentence_transformer(scorer, answer, predictor.fields, predictor.labels, out)
            return Export("sentence_transformer", predictor.fields)
        if scorer.prompting.encoder.closing:
            raise PredictorError("its chat template puts tokens behind the prompt, as no classifier's tokenizer does.")
        if answer is None:
            raise PredictorError(
                "its answers are no linear map of one state: label words of several tokens or contexts."
            )
        if answer.unit:
            raise PredictorError("its states are scaled to length one before they are read, which no classifier does.")
        if isinstance(change, Adapter) and not (change.four_bit or options.merge or answer.has_offset):
            part = read_manifest(folder).scorer
            assert isinstance(part, LanguagePart)
            base = find_base(part.base, options.base, scorer.model.revision)
            return Export("adapter", write_adapter(scorer, change, answer, base, out), base=base)
        classifier = build_classifier(scorer, answer, predictor.labels)
        classifier.save(out)
        return Export("classifier", classifier.fields)
    except PredictorError as reason:
        write_language_program(predictor, scorer, answer, out)
        return Export("program", predictor.fields, str(reason))


def read_export(folder: Path, export: Export, labels: Sequence[str], rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Probabilities (rows, labels) of an export, by the tools that it is for."""
    if export.form == "program":
        return np.array(_load_program(folder).probabilities([dict(row) for row in rows]))
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from fewtune.exporting.onnx_model import ROWS_AT_ONCE

    if export.form == "sentence_transformer":
        return _read_sentence_transformer(folder, [row[export.fields[0]] for row in rows])
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    if export.form == "adapter":
        from peft import PeftModel

        assert export.base is not None  # each adapter has one
        with warnings.catch_warnings(), torch.random.fork_rng():
            # PEFT asks Transformers for something by its old name; the user can do nothing about it.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            base = AutoModelForSequenceClassification.from_pretrained(
                str(export.base.folder),
                num_labels=len(labels),
                pad_token_id=tokenizer.pad_token_id,
                dtype=torch.float32,
            )
            model: Any = PeftModel.from_pretrained(base, str(folder))
    else:
        model = AutoModelForSequenceClassification.from_pretrained(str(folder), dtype=torch.float32)
    found = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        texts = [[row[name] for row in part] for name in export.fields]
        given = tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            found.append(model.eval()(**given).logits.double().softmax(-1).numpy())
    return np.concatenate(found)


def _read_sentence_transformer(folder: Path, texts: Sequence[str]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        from sentence_transformers import SentenceTransformer

        model: Any = SentenceTransformer(str(folder), device="cpu")
    logits = np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float64)
    probabilities: np.ndarray = np.exp(normalise(logits))
    return probabilities


def _load_program(folder: Path) -> Any:
    """The classifier of an export's program, loaded from its file; nothing is written beside it."""
    spec = importlib.util.spec_from_file_location("fewtune_exported_program", folder / "classify.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        return module.Classifier(folder)  # which loads the programs of a stack's members
    finally:
        sys.dont_write_bytecode = before
