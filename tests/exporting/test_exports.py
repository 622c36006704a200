"""Every method, on every architecture, is answered the same by the tools that its export is for, without fewtune."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import fewtune
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.errors import PredictorError
from fewtune.exporting import base_model, export
from fewtune.exporting.adapter import write_adapter
from fewtune.exporting.base_model import BaseModel
from fewtune.exporting.export import ExportOptions, export_model, read_export
from fewtune.exporting.linear import read_linear
from fewtune.exporting.onnx_model import read_graph
from fewtune.methods import get_method
from fewtune.models import find_model
from fewtune.models.snapshot import ModelSnapshot
from fewtune.predictors.manifest import BasePart
from fewtune.predictors.mistaken_folder import Mistaken, tell_kind
from fewtune.predictors.predictor import Predictor
from fewtune.tasks.base import Draw, Pattern, Task
from method_cases import run
from saved_cases import ALL, ROWS, STACK

# Answers rows with every export, as its users do; importing fewtune fails.
READER = """
import importlib.abc, importlib.util, json, sys
from pathlib import Path

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "fewtune":
            raise ImportError("fewtune is not installed here")

sys.meta_path.insert(0, Refuse())
import numpy as np
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer

root = Path(sys.argv[1])
rows = json.loads((root / "rows.json").read_text())
for place in sorted(path for path in root.glob("*/exported*") if path.is_dir()):
    told = json.loads((place.parent / f"{place.name}.json").read_text())
    if told["form"] == "program":
        spec = importlib.util.spec_from_file_location("classify", place / "classify.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = module.Classifier(place).probabilities(rows)
    elif told["form"] == "sentence_transformer":
        from sentence_transformers import SentenceTransformer
        logits = SentenceTransformer(str(place), device="cpu").encode([row["text"] for row in rows])
        found = torch.tensor(logits).softmax(-1).numpy()
    else:
        tokenizer = AutoTokenizer.from_pretrained(place)
        if told["form"] == "adapter":
            model = AutoPeftModelForSequenceClassification.from_pretrained(
                place, num_labels=2, pad_token_id=tokenizer.pad_token_id)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(place)
        given = tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            found = model.eval()(**given).logits.softmax(-1).numpy()
    np.save(place.parent / f"{place.name}.npy", np.array(found))
"""
ONNX = [("llama", "in_context", {"contexts": 1, "demonstrations": 2}), ("gpt2", "lora", {"epochs": 2})]
ONNX += [("opt-350m-shaped", "soft_prompt", {"epochs": 2})]


@pytest.fixture(scope="module")
def exported(saved_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each case: each export of what was saved, and what a process without fewtune got of it."""
    root = tmp_path_factory.mktemp("exports")
    (root / "rows.json").write_text(json.dumps([{"text": text} for text in ROWS]))
    for saved in sorted(saved_cases.glob("*/saved")):
        stacked: tuple[Any, ...] = ("float32", "several", STACK, {})
        precision, architecture, name, values = stacked if saved.parent.name == STACK else ALL[int(saved.parent.name)]
        # No form looks for rows that are near (tests/methods/test_in_context.py, test_knn_prompting.py).
        if precision != "float32" or values.get("selection") == "nearest" or name == "knn_prompting":
            continue
        folder = root / saved.parent.name
        folder.mkdir()
        for merge in (False, True):
            place = folder / f"exported{'-merged' * merge}"
            found = export_model(saved, place, ExportOptions(merge=merge))
            told = {"form": found.form, "reason": found.reason, "case": [architecture, name, values]}
            (folder / f"{place.name}.json").write_text(json.dumps(told))
            if found.form != "adapter":
                break
    subprocess.run([sys.executable, "-c", READER, str(root)], check=True)
    return root


def test_every_export_answers_as_its_model_does(exported: Path, saved_cases: Path) -> None:
    forms: Counter[str] = Counter()
    for told in sorted(exported.glob("*/exported*.json")):
        content = json.loads(told.read_text())
        expected = np.load(saved_cases / told.parent.name / "probabilities.npy")
        found = np.load(told.with_suffix(".npy"))
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=str(content))
        forms[content["form"]] += 1
    assert forms["classifier"] > 40 and forms["adapter"] > 10 and forms["program"] > 20, forms
    assert forms["sentence_transformer"] > 10, forms


def test_no_file_of_an_export_names_a_folder_of_this_machine_but_an_adapters_own(
    exported: Path, model_folders: dict[str, Path]
) -> None:
    folders = [str(folder).encode() for folder in model_folders.values()]
    for file in exported.rglob("exported*/**/*"):
        if file.is_file() and file.name != "adapter_config.json":
            assert not any(folder in file.read_bytes() for folder in folders), file


def test_a_program_is_written_only_where_no_classifier_can_be(exported: Path) -> None:
    reasons = set()
    for told in sorted(exported.glob("*/exported.json")):
        content = json.loads(told.read_text())
        if content["form"] == "program" and content["case"][1] not in ("majority", "tfidf", STACK):
            reasons.add(content["reason"].split(":")[0].split(" (")[0])
    assert reasons == {
        "its answers are no linear map of one state",
        "this model answers from a block before the last, which no sequence classifier does.",
        "this model reads a prefix of keys and values in every layer",
        "this model's answers need an offset a label",
        "its base model is an encoder, and what it says is no linear map of one state.",
        "Sentence Transformers embed a text as it is, and this model reads it within a prompt.",
        "its states are scaled to length one before they are read, which no classifier does.",
    }


@pytest.mark.parametrize(("architecture", "name", "values"), ONNX, ids=[f"{case[0]}-{case[1]}" for case in ONNX])
def test_a_graph_answers_as_its_model_does(
    architecture: str,
    name: str,
    values: dict[str, Any],
    models: dict[str, LanguageModel],
    task: Task,
    draw: Draw,
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxscript", reason="pip install 'fewtune[onnx]'")
    method = get_method(name)
    predictor = replace(
        run(method, method.settings(**values), models[architecture], task, draw).predictor, temperature=0.6
    )
    predictor.save(tmp_path / "saved")
    export_model(tmp_path / "saved", tmp_path / "out", ExportOptions(onnx=True))
    rows = [{"text": text} for text in ROWS]
    found = read_graph(tmp_path / "out" / "onnx", ["text"], rows)
    np.testing.assert_allclose(found, predictor.predict_probabilities(rows), atol=1e-4)


def test_an_export_that_answers_otherwise_is_never_left(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = get_method("vanilla")
    run(method, method.settings(epochs=2), models["llama"], task, draw).predictor.save(tmp_path / "saved")
    monkeypatch.setattr(export, "read_export", lambda *given: 1 - read_export(*given))
    with pytest.raises(PredictorError, match="the export answers otherwise than the model"):
        export_model(tmp_path / "saved", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_no_graph_is_refused(models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path) -> None:
    for name in ("tfidf", "in_context"):
        method = get_method(name)
        settings = method.settings() if name == "tfidf" else method.settings(demonstrations=0, pattern="verdict")
        run(method, settings, models["llama"], task, draw).predictor.save(tmp_path / name)
        with pytest.raises(PredictorError, match="this model has no ONNX form"):
            export_model(tmp_path / name, tmp_path / "out", ExportOptions(onnx=True))
        assert not (tmp_path / "out").exists()


def test_a_program_breaks_ties_as_its_model_does(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    for name, settings in (("majority", {}), ("in_context", {"demonstrations": 0, "pattern": "verdict"})):
        method = get_method(name)
        predictor = run(method, method.settings(**settings), models["llama"], task, draw).predictor
        # Nothing speaks for a label: its scores are divided by so much that both are as likely.
        even = replace(predictor, temperature=1e30)
        even.save(tmp_path / name)
        export_model(tmp_path / name, tmp_path / f"{name}-out")
        rows = [{"text": text} for text in ROWS[:4]]
        program = export._load_program(tmp_path / f"{name}-out")
        np.testing.assert_array_equal(program.probabilities(rows), 0.5)
        assert program.predict(rows) == even.predict(rows)


def test_a_program_cuts_long_pairs_as_its_model_does(pairs: Predictor, tmp_path: Path) -> None:
    pairs.save(tmp_path / "saved")
    assert export_model(tmp_path / "saved", tmp_path / "out").form == "program"
    program = export._load_program(tmp_path / "out")
    scorer: Any = pairs.scorer
    encoder, template = scorer.prompting.encoder, scorer.prompting.template
    for first, second in ((90, 70), (4, 90), (90, 4), (300, 299), (1, 1)):
        row = {"text_1": "the cook is a joy to know " * first, "text_2": "this 😀 kettle broke " * second}
        [mine] = encoder.encode(template, pairs.read_rows([row]), reserve=program._answer_tokens())
        assert program._encode(row, "", template) == mine, (first, second)


def test_every_export_is_told_from_a_saved_model(exported: Path) -> None:
    folders = [folder for case in exported.iterdir() if case.is_dir() for folder in case.iterdir() if folder.is_dir()]
    assert folders and {tell_kind(folder) for folder in folders} == {Mistaken.EXPORT}


@pytest.fixture(scope="module")
def pairs(model_folders: dict[str, Path]) -> Predictor:
    """A model of two texts whose label words have several tokens."""
    rows = [{"text_1": text, "text_2": text[::-1]} for text in ROWS[:4]]
    labels = ["a kettle that broke", "the joy to know"] * 2
    return fewtune.fit(rows, labels, "zero_shot", str(model_folders["llama"]))


@pytest.mark.parametrize("spare", [0, 16], ids=["full", "padded"])
def test_a_soft_prompts_program_says_none_of_its_virtual_words(
    spare: int, model_folders: dict[str, Path], task: Task, draw: Draw, tmp_path: Path
) -> None:
    """With a table of embeddings as long as the vocabulary, and with one that has rows of no word."""
    network = AutoModelForCausalLM.from_pretrained(model_folders["llama"])
    network.resize_token_embeddings(network.config.vocab_size + spare)
    shutil.copytree(model_folders["llama"], tmp_path / "model")
    network.save_pretrained(tmp_path / "model")
    model = load_model(find_model(str(tmp_path / "model")), "float32")
    words = Pattern("long", "{text}. Feeling:", (" never lets us down", " a joy to know"))
    method, longer = get_method("soft_prompt"), replace(task, patterns=(words,))
    settings = method.settings(epochs=20, learning_rate=0.3, tokens=8)
    run(method, settings, model, longer, draw).predictor.save(tmp_path / "saved")
    found = export_model(tmp_path / "saved", tmp_path / "out")
    assert found.form == "program" and found.difference < 1e-4
    assert export._load_program(tmp_path / "out").content["max_positions"] == 128


def test_constrained_words_that_first_tokens_tell_apart_are_a_classifiers(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    method, words = get_method("lora"), ("broke on day one", "never lets us down")
    for constrained, form in ((True, "classifier"), (False, "program")):
        asked = replace(task, patterns=(Pattern("long", "{text}. Feeling: ", words, constrained),))
        saved, out = tmp_path / form, tmp_path / f"{form} out"
        run(method, method.settings(epochs=1), models["llama"], asked, draw).predictor.save(saved)
        found = export_model(saved, out, ExportOptions(merge=True))
        assert found.form == form and found.difference < 1e-4


def test_texts_that_hold_special_tokens_are_no_reason_to_refuse_an_export(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    method = get_method("zero_shot")
    run(method, method.settings(), models["llama"], task, draw).predictor.save(tmp_path / "saved")
    rows = [{"text": text} for text in ("a </s> b", "<s>struck out</s>", "ends <pad>", "sound and whole")]
    more = export_model(tmp_path / "saved", tmp_path / "out", ExportOptions(), rows)
    assert more.rows == export_model(tmp_path / "saved", tmp_path / "again").rows + 1


def test_what_no_form_holds_is_told_before_its_graph(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    method = get_method("in_context")
    for settings, told in (
        ({"selection": "nearest", "demonstrations": 2}, "stand the demonstrations nearest to it"),
        ({"contexts": 1, "calibration": "scored"}, "depends on the rows scored with it"),
    ):
        found = run(method, method.settings(**settings), models["llama"], task, draw)
        found.predictor.save(tmp_path / told)
        with pytest.raises(PredictorError, match=told):
            export_model(tmp_path / told, tmp_path / "out", ExportOptions(onnx=True))


HUB = Path("/caches/hub/models--owner--name/snapshots/c0ffee")


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("owner/name", None, ("owner/name", "c0ffee")),
        ("owner/name:chat", None, ("owner/name", "c0ffee")),
        ("opt-125m", None, ("facebook/opt-125m", "c0ffee")),
        ("smollm2-135m", None, ("smollm2-135m", None)),
        (str(HUB), None, ("owner/name", "c0ffee")),
        ("owner/name", "{folder}", ("owner/name", "c0ffee")),
        ("smollm2-135m", "{folder}", ("smollm2-135m", None)),
        ("/gone/model", "owner/name", ("owner/name", "c0ffee")),
        ("{folder}", None, ("{folder}", None)),
        ("/gone/model", "{folder}", ("{folder}", None)),
    ],
)
def test_a_base_model_has_its_own_name_wherever_its_weights_lie(
    name: str, given: str | None, expected: tuple[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(text: str | None) -> Any:
        return text and text.replace("{folder}", str(tmp_path))

    def find(asked: str, revision: str | None) -> ModelSnapshot:
        return ModelSnapshot(asked, tmp_path, "weights", revision)

    monkeypatch.setattr(base_model, "find_model", find)
    part = BasePart(name=fill(name), weights_fingerprint="weights", precision="float32", revision="c0ffee")
    found = base_model.find_base(part, fill(given), "c0ffee")
    assert (found.name, found.revision) == (fill(expected[0]), expected[1])
    assert found.folder == tmp_path


def test_an_adapter_says_at_which_commit_its_base_is(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = get_method("lora")
    predictor = run(method, method.settings(epochs=1), models["llama"], task, draw).predictor
    scorer = replace(predictor.scorer, model=replace(models["llama"], revision="c0ffee"))  # type: ignore[type-var]
    answer = read_linear(scorer, 1.0)
    assert answer is not None
    write_adapter(scorer, scorer.change, answer, BaseModel("owner/name", "c0ffee"), tmp_path / "out")
    told = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["revision"]) == ("owner/name", "c0ffee")


def test_a_model_whose_padding_was_added_is_exported(
    model_folders: dict[str, Path], task: Task, draw: Draw, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    method = get_method("pattern")
    model = load_model(find_model(str(folder)), "float32")
    run(method, method.settings(epochs=1), model, task, draw).predictor.save(tmp_path / "saved")
    rows = [{"text": "the form has [PAD] in it"}]
    assert export_model(tmp_path / "saved", tmp_path / "out", rows=rows).form == "classifier"
