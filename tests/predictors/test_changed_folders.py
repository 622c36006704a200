"""Whatever is changed in a saved model's folder, it answers as before or is refused by the name of what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import fewtune
from changed_folders import (
    JUNK,
    TENSOR_CHANGES,
    WAYS,
    change_manifest,
    change_tensors,
    change_value,
    list_places,
    seal,
    write_manifest,
)
from command_line import call
from fewtune.engine.language_model import LanguageModel
from fewtune.errors import FewtuneError, PredictorError
from fewtune.methods import get_method
from fewtune.methods.base import find_skip_reason
from fewtune.predictors.abstention import AbstentionPart
from fewtune.predictors.model_folder import MANIFEST
from fewtune.predictors.stack import stack_predictors
from fewtune.tasks.base import Draw, Task
from method_cases import CASES, run

ROWS = ["a pilot is a joy to know", "this kettle broke on day one!", "GOOD"]
ADAPTER, ADAPTER_WEIGHTS = "adapter/adapter_config.json", "adapter/adapter_model.safetensors"
WEIGHTS = "weights.safetensors"
STACK = "stack"
STACKED = [("llama", "tfidf", {}), ("llama", "lora", {"epochs": 3}), ("bert", "embeddings", {})]
"""The members of a stack; `members/1` has an adapter."""
MEMBERS_FILES = ("members/0/weights.safetensors", f"members/1/{ADAPTER_WEIGHTS}", "members/2/weights.safetensors")
ABSTENTION = AbstentionPart(
    risk=0.1, confidence=0.9, threshold=0.5, coverage=0.5, coverage_low=0.4, coverage_high=0.6, rows=40, errors=1
)
FUZZED = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Saved:
    """A saved model, and what it answers to ROWS."""

    folder: Path
    answers: np.ndarray


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> dict[str, Saved]:
    """Every method under each of its settings, by both, a few on an encoder, and a stack."""
    root = tmp_path_factory.mktemp("saved")
    on_encoder = [("bert", "vanilla", {"epochs": 1}), ("bert", "pattern", {"epochs": 1}), ("bert", "embeddings", {})]
    on_decoders = [("opt" if name == "bitfit" else "llama", name, values) for name, values in CASES]
    found = {}
    for number, (architecture, name, values) in enumerate([*on_decoders, *on_encoder]):
        told = " ".join((architecture, name, *(f"{key}={value}" for key, value in values.items())))
        method, model = get_method(name), models[architecture]
        asked = method.settings(**values)
        if find_skip_reason(method, asked, model.config, task) is not None:
            continue
        made = run(method, asked, model, task, draw).predictor
        predictor = replace(made, temperature=1.7, abstention=ABSTENTION, origin={"method": name})
        predictor.save(root / str(number))
        found[told] = Saved(root / str(number), predictor.predict_probabilities(ROWS))
    members = [
        run(get_method(name), get_method(name).settings(**values), models[architecture], task, draw).predictor
        for architecture, name, values in STACKED
    ]
    predictor = replace(stack_predictors(members, [0.5, 0.3, 0.4], [0.2, 0.0]), abstention=ABSTENTION)
    predictor.save(root / STACK)
    found[STACK] = Saved(root / STACK, predictor.predict_probabilities(ROWS))
    return found


PROBE, TFIDF, KNN = "llama probe", "llama tfidf", "llama knn_prompting demonstrations=2 neighbours=2"
LORA, LORA_HEAD = "llama lora epochs=3", "llama lora epochs=2 readout=head"
DORA = "llama lora epochs=2 dora=True b_rate_ratio=4.0"
PROMPT, PREFIX = "llama soft_prompt epochs=3", "llama soft_prompt epochs=2 kind=prefix"


@pytest.fixture
def changed(saved: dict[str, Saved], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the saved models, to be changed."""
    return lambda name: Path(shutil.copytree(saved[name].folder, tmp_path / "changed"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file of a folder in place, and have the manifest vouch for it."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    seal(path.parent.parent)


@pytest.mark.parametrize(
    ("name", "file", "missing"),
    [
        (LORA, ADAPTER_WEIGHTS, r"lacks 21 tensors: base_model\.model\.model\.layers\.\d\.\S+\.lora_B\.weight"),
        (DORA, ADAPTER_WEIGHTS, r"lacks \d+ tensors: base_model\.model\.model\.layers\.\d\.\S+\.lora_"),
        ("llama ia3 epochs=3", ADAPTER_WEIGHTS, r"lacks 4 tensors: base_model\.model\.model\.layers\.\d\.\S+\.ia3_l"),
        (PROMPT, ADAPTER_WEIGHTS, "lacks 1 tensor: prompt_embeddings"),
        (PREFIX, ADAPTER_WEIGHTS, "lacks 1 tensor: prompt_embeddings"),
        (LORA_HEAD, WEIGHTS, r"lacks 1 tensor: head\.weight"),
        ("llama pattern epochs=3", WEIGHTS, r"lacks \d+ tensors: network\.model\.layers\.\S+, .* and \d+ more"),
    ],
)
def test_tensors_that_a_file_lacks_are_named(
    name: str, file: str, missing: str, changed: Callable[[str], Path]
) -> None:
    folder = changed(name)
    change_tensors(folder / file, "half of them dropped")
    seal(folder)
    with pytest.raises(PredictorError, match=missing):
        fewtune.load(folder)


@pytest.mark.parametrize("name", [LORA, "llama ia3 epochs=3", PROMPT, PREFIX])
def test_tensors_that_an_adapter_has_no_place_for_are_named(name: str, changed: Callable[[str], Path]) -> None:
    folder = changed(name)
    change_tensors(folder / ADAPTER_WEIGHTS, "one added")
    seal(folder)
    with pytest.raises(PredictorError, match="has no place for 1 tensor: more"):
        fewtune.load(folder)


def test_modules_that_match_fewer_than_there_are_tensors_for_are_refused(changed: Callable[[str], Path]) -> None:
    folder = changed(LORA)
    rewrite(folder / ADAPTER, lambda content: content["target_modules"].remove("q_proj"))
    with pytest.raises(PredictorError, match=r"no place for 6 tensors: \S+q_proj\.lora_A\.weight"):
        fewtune.load(folder)


@pytest.mark.parametrize(
    ("name", "place", "value", "told"),
    [
        (PROBE, ("labels",), ["bad", "good", "extra"], r"scorer\.readout\.labels is of 2 labels, and labels names 3"),
        (LORA, ("labels",), ["bad", "good", "extra"], r"scorer\.readout\.tokens is of 2 labels, and labels names 3"),
        ("llama majority", ("labels",), ["bad", "good", "extra"], r"scores is F64 of shape \[2\] and must be"),
        (LORA_HEAD, ("labels",), ["bad", "good", "extra"], r"head\.weight is F32 of shape \[2, 32\] and must be"),
        (TFIDF, ("labels",), ["good", "good"], "labels names 'good' twice"),
        (TFIDF, ("labels",), ["", "good"], r"labels\.0: String should have at least 1 character"),
        (TFIDF, ("scorer", "regression", "classes"), [1, 0], "classes do not rise"),
        (TFIDF, ("scorer", "regression", "classes"), [0, 2], "classes names label 2, and there are 2"),
        (TFIDF, ("scorer", "longest_phrase"), 1, "no phrase of up to 1 words"),
        (TFIDF, ("scorer", "vocabulary"), ["good", "good"], "vocabulary names 'good' twice"),
        (TFIDF, ("scorer", "vocabulary"), ["good"], r"inverse_frequencies is F64 of shape \[\d+\] and must be"),
        (TFIDF, ("scorer", "template"), "{body}", "template '{body}' reads 'body', which fields does not name"),
        (TFIDF, ("scorer", "template"), "{", "template '{' cannot be read"),
        (TFIDF, ("temperature",), 1e-200, "temperature: Input should be greater than"),
        (PROBE, ("scorer", "block"), 9, "block of its manifest is 9, and its base model has 3"),
        (PROBE, ("scorer", "max_positions"), 500, "max_positions of its manifest is 500, and its base model has 128"),
        (PROBE, ("scorer", "max_tokens"), 1, "no row can be read as its manifest says"),
        (PROMPT, ("scorer", "max_positions"), 128, "max_positions of its manifest is 128, and its base model has 112"),
        (PREFIX, ("scorer", "network", "layers"), [0, 1, 7], r"layers is \(0, 1, 7\) and must be \(0, 1, 2\)"),
        (PREFIX, ("scorer", "network", "heads"), 3, "heads is 3 and must be 2"),
        (LORA, ("scorer", "readout", "tokens"), [[5], [400]], r"readout\.tokens of its manifest is 400, .* has 399"),
        (LORA, ("scorer", "readout", "tokens"), [[5], [5, 6]], r"tokens \[5\] of one label begin those of another"),
        (KNN, ("scorer", "readout", "labels_of"), [0, 0, 0, 0, 1, 2], "labels_of names label 2, and there are 2"),
        (KNN, ("scorer", "readout", "labels_of"), [0, 1], r"anchors is F32 of shape \[6, 400\] and must be"),
        ("llama zero_shot", ("scorer", "contexts", 0, "log_prior"), [-1.0], r"contexts\.0\.log_prior is of 1 labels"),
        (STACK, ("labels",), ["bad", "good", "extra"], r"scorer\.bias is of 2 labels, and labels names 3"),
        (STACK, ("scorer", "bias"), [0.2], r"scorer\.bias is of 1 labels, and labels names 2"),
        (STACK, ("scorer", "weights"), [0.5, 0.5], "weights are 2, and members 3"),
        (STACK, ("scorer", "weights", 1), 0.0, r"weights\.1: Input should be greater than 0"),
        (STACK, ("scorer", "members", 1, "scorer"), {"kind": "stack"}, r"members\.1\.scorer: Input tag 'stack'"),
        (STACK, ("scorer", "members", 1, "temperature"), 0.0, r"members\.1\.temperature: Input should be greater"),
        (STACK, ("scorer", "members", 0, "scorer", "template"), "{body}", "reads 'body', which fields does not name"),
        (
            STACK,
            ("scorer", "members", 0, "scorer", "regression", "labels"),
            3,
            r"scorer\.members\.0\.scorer\.regression\.labels is of 3 labels, and labels names 2",
        ),
    ],
)
def test_a_manifest_at_odds_with_itself_or_its_files_is_refused_by_the_field(
    name: str, place: tuple[str | int, ...], value: Any, told: str, changed: Callable[[str], Path]
) -> None:
    folder = changed(name)
    content = json.loads((folder / MANIFEST).read_text())
    write_manifest(folder, change_value(content, place, "replace", value))
    with pytest.raises(PredictorError, match=told):
        fewtune.load(folder)


@pytest.mark.parametrize("file", MEMBERS_FILES)
def test_a_members_file_that_is_missing_or_damaged_is_named(file: str, changed: Callable[[str], Path]) -> None:
    folder = changed(STACK)
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(PredictorError, match=f"{file}: its content is not what was saved"):
        fewtune.load(folder)
    (folder / file).unlink()
    with pytest.raises(PredictorError, match=f"{file}, which its manifest names, is not there"):
        fewtune.load(folder)
    change_manifest(folder, lambda content: content["files"].pop(file))
    with pytest.raises(PredictorError, match=r"lacks \d tensors|its manifest does not name members/1/adapter"):
        fewtune.load(folder)


def test_a_manifest_is_held_to_its_digest_and_one_of_before_has_none(
    saved: dict[str, Saved], changed: Callable[[str], Path]
) -> None:
    folder = changed(TFIDF)
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**content, "labels": ["good", "bad"]}))
    with pytest.raises(PredictorError, match=r"manifest\.json: its content is not what was saved"):
        fewtune.load(folder)
    write_manifest(folder, {name: value for name, value in content.items() if name != "digest"} | {"schema_version": 2})
    np.testing.assert_array_equal(fewtune.load(folder).predict_probabilities(ROWS), saved[TFIDF].answers)


def test_an_adapter_never_has_a_module_imported(
    changed: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "megatron").mkdir()
    (tmp_path / "megatron" / "trap.py").write_text("raise AssertionError('a module was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = changed(LORA)
    rewrite(folder / ADAPTER, lambda content: content.update(megatron_config={"a": 1}, megatron_core="megatron.trap"))
    with pytest.raises(PredictorError, match="it sets megatron_config, megatron_core, as fewtune never does"):
        fewtune.load(folder)


@pytest.mark.parametrize("key", ["target_modules", "feedforward_modules"])
@pytest.mark.parametrize("value", [r".*\.(down_proj|k_proj|v_proj)", [r"(\w+)+\.k_proj"], "all-linear"])
def test_a_regular_expression_for_modules_is_refused(key: str, value: Any, changed: Callable[[str], Path]) -> None:
    folder = changed("llama ia3 epochs=3")
    rewrite(folder / ADAPTER, lambda content: content.update({key: value}))
    with pytest.raises(PredictorError, match=rf"adapter_config\.json: {key}"):
        fewtune.load(folder)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (LORA, "layers_pattern", "(a+)+"),
        (LORA, "rank_pattern", {"(a+)+": 4}),
        (LORA, "modules_to_save", ["lm_head"]),
        (LORA, "init_lora_weights", "pissa"),
        (LORA, "a_key_of_tomorrow", 3),
        ("llama ia3 epochs=3", "exclude_modules", "(a+)+"),
        (PROMPT, "tokenizer_kwargs", {"trust_remote_code": True}),
        (PREFIX, "prefix_projection", True),
    ],
)
def test_a_key_that_fewtune_never_sets_is_refused_by_its_name(
    name: str, key: str, value: Any, changed: Callable[[str], Path]
) -> None:
    folder = changed(name)
    rewrite(folder / ADAPTER, lambda content: content.update({key: value}))
    with pytest.raises(PredictorError, match=f"it sets {key}, as fewtune never does"):
        fewtune.load(folder)


def test_keys_that_ask_for_nothing_do_not_count(saved: dict[str, Saved], changed: Callable[[str], Path]) -> None:
    folder = changed(LORA)

    def leave(content: dict[str, Any]) -> None:
        del content["megatron_core"], content["peft_version"]
        content["a_key_of_tomorrow"] = None

    rewrite(folder / ADAPTER, leave)
    np.testing.assert_array_equal(fewtune.load(folder).predict_probabilities(ROWS), saved[LORA].answers)


@pytest.mark.parametrize("name", [LORA_HEAD, TFIDF])
def test_predict_says_what_is_wrong_before_any_line_of_answers(
    name: str, changed: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("text\nfine\n")
    folder = changed(name)
    change_manifest(folder, lambda content: content["labels"].append("extra"))
    assert call("predict", folder, tmp_path / "rows.csv") == 2
    told = capsys.readouterr()
    assert not told.out and ("labels names 3" in told.err or "must be" in told.err)


def test_predict_says_that_weights_overflow_before_any_line_of_answers(
    changed: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("text\nfine\n")
    folder = changed(LORA_HEAD)
    save_file({"head.weight": np.full((2, 32), 3e38, np.float32)}, folder / WEIGHTS)
    seal(folder)
    assert call("predict", folder, tmp_path / "rows.csv") == 2
    told = capsys.readouterr()
    assert not told.out and "row 1: the model's answer is no number" in " ".join(told.err.split())


def load_or_refuse(folder: Path, labels: int) -> np.ndarray | None:
    """What a folder's model answers, checked to be probabilities of its labels; None where it is refused."""
    try:
        predictor = fewtune.load(folder)
    except FewtuneError as error:
        assert str(folder) in str(error) or "unknown model" in str(error) or "knn_prompting again" in str(error)
        return None
    rows = [dict.fromkeys(predictor.fields, text) for text in ROWS]
    answers = predictor.predict_probabilities(rows)
    assert answers.shape == (len(rows), labels) == (len(predictor.predict(rows)), len(predictor.labels))
    np.testing.assert_allclose(answers.sum(axis=1), 1.0)
    return answers


def draw_change(data: st.DataObject, content: Any) -> Any:
    place = data.draw(st.sampled_from(list(list_places(content))), "place")
    return change_value(
        content, place, data.draw(st.sampled_from(WAYS), "way"), data.draw(st.sampled_from(JUNK), "junk")
    )


def copy_one(data: st.DataObject, saved: dict[str, Saved], folder: Path, holding: str = "") -> Saved:
    """A copy of one of the models that hold such a file."""
    names = [name for name, each in saved.items() if (each.folder / holding).exists()]
    chosen = saved[data.draw(st.sampled_from(names), "model")]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(chosen.folder, folder)
    return Saved(folder, chosen.answers)


@FUZZED
@given(data=st.data())
def test_a_changed_manifest_is_refused_or_answers_as_before(
    data: st.DataObject, saved: dict[str, Saved], tmp_path: Path
) -> None:
    copied = copy_one(data, saved, tmp_path / "copy")
    path = copied.folder / MANIFEST
    path.write_text(json.dumps(draw_change(data, json.loads(path.read_text()))))
    answers = load_or_refuse(copied.folder, copied.answers.shape[1])
    assert answers is None or np.array_equal(answers, copied.answers)


@FUZZED
@given(data=st.data())
def test_a_manifest_that_vouches_for_its_changes_is_refused_or_answers_every_row(
    data: st.DataObject, saved: dict[str, Saved], tmp_path: Path
) -> None:
    copied = copy_one(data, saved, tmp_path / "copy")
    write_manifest(copied.folder, draw_change(data, json.loads((copied.folder / MANIFEST).read_text())))
    load_or_refuse(copied.folder, copied.answers.shape[1])


@FUZZED
@given(data=st.data())
def test_changed_settings_of_an_adapter_are_refused_or_answer_every_row(
    data: st.DataObject, saved: dict[str, Saved], tmp_path: Path
) -> None:
    copied = copy_one(data, saved, tmp_path / "copy", holding=ADAPTER)
    path = copied.folder / ADAPTER
    path.write_text(json.dumps(draw_change(data, json.loads(path.read_text()))))
    seal(copied.folder)
    load_or_refuse(copied.folder, copied.answers.shape[1])


@FUZZED
@given(
    data=st.data(),
    way=st.sampled_from(sorted(TENSOR_CHANGES)),
    file=st.sampled_from([WEIGHTS, ADAPTER_WEIGHTS, *MEMBERS_FILES]),
)
def test_changed_tensors_are_refused_by_their_file(
    data: st.DataObject, way: str, file: str, saved: dict[str, Saved], tmp_path: Path
) -> None:
    copied = copy_one(data, saved, tmp_path / "copy", holding=file)
    change_tensors(copied.folder / file, way)
    seal(copied.folder)
    with pytest.raises(PredictorError, match=file):
        fewtune.load(copied.folder)
