"""A predictor's folder is read only where it is what was saved; every other folder is one clear message."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM

from changed_folders import change_manifest
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts
from fewtune.errors import DataError, ModelError, PredictorError, UnwrittenError
from fewtune.methods import get_method
from fewtune.predictors.model_folder import load_predictor
from fewtune.predictors.regression import Regression
from fewtune.tasks.base import Draw, Task
from method_cases import run


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, models: dict[str, LanguageModel], task: Task, draw: Draw) -> Path:
    method = get_method("lora")
    folder = tmp_path_factory.mktemp("saved") / "lora"
    run(method, method.settings(epochs=2), models["llama"], task, draw).predictor.save(folder)
    return folder


@pytest.fixture
def damaged(saved: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_texts_are_answered_with_labels_and_probabilities(saved: Path, task: Task) -> None:
    predictor = load_predictor(saved)
    probabilities = predictor.predict_probabilities(["a pilot is a joy to know", {"text": "this kettle broke"}])
    assert probabilities.shape == (2, 2) and predictor.labels == task.labels
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    answers = predictor.predict(["a pilot is a joy to know", "this kettle broke"])
    assert answers == [task.labels[i] for i in probabilities.argmax(1)]
    assert predictor.predict([]) == []
    with pytest.raises(DataError, match="row 2 has no text text; it has words"):
        predictor.predict(["fine", {"words": "none"}])


def test_a_folder_that_is_no_saved_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="there is no such folder"):
        load_predictor(tmp_path / "nowhere")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(PredictorError, match=r"holds no manifest\.json"):
        load_predictor(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"a":' * 90_000, '{"format": "another"}', '{"labels": 3}'])
def test_a_manifest_that_is_none_is_told_with_its_file(damaged: Path, content: str) -> None:
    (damaged / "manifest.json").write_text(content)
    with pytest.raises(PredictorError, match=r"manifest\.json: not"):
        load_predictor(damaged)


def test_a_manifest_that_has_a_key_twice_is_told_with_its_name(damaged: Path) -> None:
    text = (damaged / "manifest.json").read_text()
    (damaged / "manifest.json").write_text(text.replace('"temperature"', '"temperature": 7.5, "temperature"', 1))
    with pytest.raises(PredictorError, match=r"manifest\.json: the key 'temperature' stands twice"):
        load_predictor(damaged)


def test_a_newer_format_is_told(damaged: Path) -> None:
    change_manifest(damaged, lambda content: content.update(schema_version=4, something="new"))
    with pytest.raises(PredictorError, match=r"by a newer fewtune \(format 4; this one reads 3\)"):
        load_predictor(damaged)


def test_a_changed_or_missing_file_is_told(damaged: Path) -> None:
    weights = damaged / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PredictorError, match=r"adapter_model\.safetensors: its content is not what was saved"):
        load_predictor(damaged)
    weights.write_bytes(content[:-100])
    with pytest.raises(PredictorError, match="its content is not what was saved"):
        load_predictor(damaged)
    weights.unlink()
    with pytest.raises(PredictorError, match=r"adapter/adapter_model\.safetensors, which its manifest names, is not"):
        load_predictor(damaged)


def test_a_manifest_cannot_name_files_elsewhere(damaged: Path) -> None:
    change_manifest(damaged, lambda content: content["files"].update({"../secret": "0" * 64}))
    with pytest.raises(PredictorError, match=r"\.\./secret, which its manifest names, is not there"):
        load_predictor(damaged)


def test_another_base_model_is_refused(damaged: Path, model_folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match=r"fitted on another model than .*gpt2 holds"):
        load_predictor(damaged, base=model_folders["gpt2"])
    change_manifest(damaged, lambda content: content["scorer"]["base"].update(name=str(tmp_path / "gone")))
    with pytest.raises(ModelError, match="unknown model"):
        load_predictor(damaged)
    load_predictor(damaged, base=model_folders["llama"])


def test_a_pickle_beside_a_saved_model_is_never_read(damaged: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("a pickle was read",))

    for name in ("model.pkl", "adapter/adapter_model.bin", "pytorch_model.bin"):
        (damaged / name).write_bytes(pickle.dumps(Trap()))
    load_predictor(damaged)


@pytest.mark.parametrize("name", ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"])
def test_an_adapter_that_its_manifest_does_not_name_is_refused(damaged: Path, name: str) -> None:
    change_manifest(damaged, lambda content: content["files"].pop(name))
    with pytest.raises(PredictorError, match=f"its manifest does not name {name}"):
        load_predictor(damaged)


def test_saving_overwrites_nothing_and_leaves_nothing_behind(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load_predictor(saved)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(PredictorError, match="exists and is not empty"):
        predictor.save(tmp_path / "taken")
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwrittenError, match=r"file/inside: it could not be written"):
        predictor.save(tmp_path / "file" / "inside")
    moved: list[str] = []
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    rename = Path.rename

    def rename_until_the_manifest(path: Path, target: Path) -> Path:
        if target.parent == mounted:
            moved.append(path.name)
            if path.name == "manifest.json":
                raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename_until_the_manifest)
        with pytest.raises(UnwrittenError, match="mounted: it could not be written"):
            predictor.save(mounted)
    assert moved[-1] == "manifest.json" and len(moved) > 1, "what came there in part is no model"
    assert not list(mounted.iterdir())
    (mounted / ".mounted.k9f3.part" / "finished").mkdir(parents=True)  # by a command that was killed
    predictor.save(mounted)
    assert {path.name for path in mounted.iterdir()} == {path.name for path in saved.iterdir()}
    predictor.save(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "file", "mounted", "taken"]
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (saved / "manifest.json").read_bytes()
    modules = json.loads((saved / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert len(modules) > 1 and modules == sorted(modules)  # not in a set's order, which differs from run to run


def test_peft_alone_reads_a_saved_adapter(
    saved: Path, models: dict[str, LanguageModel], model_folders: dict[str, Path]
) -> None:
    prompts, readout = [[40 + i, 41, 42] for i in range(4)], LabelWordReadout([[70], [71]])
    base = AutoModelForCausalLM.from_pretrained(model_folders["llama"])
    theirs = PeftModel.from_pretrained(base, str(saved / "adapter")).eval()
    scorer: Any = load_predictor(saved).scorer
    ours = score_prompts(scorer.prompting.forward, prompts, readout)
    plain = score_prompts(Forward(models["llama"].frozen, "float32"), prompts, readout)
    assert np.abs(ours - plain).max() > 1e-6
    import torch

    with torch.no_grad():
        logits = theirs(torch.tensor(prompts)).logits[:, -1, [70, 71]].double().numpy()
    np.testing.assert_allclose(log_softmax(ours, axis=1), log_softmax(logits, axis=1), atol=1e-4)


@pytest.mark.parametrize("labels", [2, 4])
def test_a_regression_as_arrays_answers_as_scikit_learn(labels: int) -> None:
    rng = np.random.default_rng(0)
    features, gold = rng.normal(size=(40, 5)), np.arange(40) % labels
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression().fit(scaler.transform(features), gold)
    own = Regression.fit(features, gold.tolist(), labels + 1, 1.0, StandardScaler())
    ours = own.log_probabilities(features)
    np.testing.assert_allclose(ours[:, :labels], fitted.predict_log_proba(scaler.transform(features)), atol=1e-12)
    assert (ours[:, labels] == -30.0).all()


def test_many_labels_of_few_rows_are_no_matter_to_warn_of() -> None:
    features = np.eye(24)
    fitted = Regression.fit(features, list(range(24)), 24, 1000.0)  # a warning would be an error here
    assert fitted.log_probabilities(features).argmax(1).tolist() == list(range(24))
