"""A model asked by its chat template reads what Transformers writes, and is another model than without."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.errors import ModelError
from fewtune.exporting.export import ExportOptions, export_model, read_export
from fewtune.methods import get_method
from fewtune.models import find_model, format_identity, format_terms, place_model, share_vocabulary
from fewtune.models.chat import TEMPLATE, read_turn
from fewtune.models.folder_copy import pack_model, put_down_model
from fewtune.predictors.model_folder import load_predictor
from fewtune.prompts.tokens import Encoder, Surroundings, Tokenizer
from fewtune.tasks.base import Draw, Task
from method_cases import run

TEXT = (
    "{{ '<start>be brief</s>\n' }}{% for m in messages %}{{ m['role'] + ':\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model_folders: dict[str, Path]) -> Path:
    place = Path(shutil.copytree(model_folders["llama"], tmp_path_factory.mktemp("chat") / "model"))
    (place / TEMPLATE).write_text(TEXT)
    return place


@pytest.fixture(scope="module")
def chat(folder: Path) -> LanguageModel:
    return load_model(find_model(f"{folder}:chat"), "float32")


@pytest.mark.parametrize("pattern", ["feeling", "verdict"])
def test_scores_are_those_of_the_words_that_begin_the_answer_to_the_turn(
    chat: LanguageModel, folder: Path, task: Task, draw: Draw, pattern: str
) -> None:
    method = get_method("in_context")
    settings = method.settings(demonstrations=2, contexts=1, calibration="none", pattern=pattern)
    plan = run(method, settings, chat, task, draw)
    notes, prompt = plan.report().demonstrations, plan.report().prompt
    assert notes is not None and prompt is not None
    chosen = next(each for each in task.patterns if each.name == pattern)
    assert prompt.label_words == [word.lstrip() for word in chosen.label_words]
    shown = [row for row_id in notes.rows for row in draw.support if row.row_id == row_id]
    before = "".join(chosen.template.format(**e.fields) + chosen.label_words[e.label or 0] + "\n\n" for e in shown)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def score(turn: str, word: str) -> float:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
        )
        start = tokenizer(asked, add_special_tokens=False).input_ids
        whole = [*start, *tokenizer(word, add_special_tokens=False).input_ids]
        with torch.no_grad():
            said = network(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        return sum(float(said[place - 1, whole[place]]) for place in range(len(start), len(whole)))

    rows = [row.without_label() for row in draw.test_sets[0].rows][:5]
    expected = np.array(
        [[score(before + chosen.template.format(**r.fields), w.lstrip()) for w in chosen.label_words] for r in rows]
    )
    expected = expected - np.logaddexp.reduce(expected, axis=1, keepdims=True)
    assert plan.predictor.scorer.log_probabilities(rows) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "settings"), [("pattern", {"epochs": 2}), ("vanilla", {"epochs": 2, "prompted": True}), ("probe", {})]
)
def test_a_saved_model_and_its_export_go_on_asking_by_the_template(
    chat: LanguageModel, folder: Path, task: Task, draw: Draw, tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    method = get_method(name)
    predictor = run(method, method.settings(**settings), chat, task, draw).predictor
    rows = [dict(row.fields) for row in draw.test_sets[0].rows][:6]
    expected = predictor.predict_probabilities(rows)
    predictor.save(tmp_path / "saved")
    for base in (None, folder):
        assert load_predictor(tmp_path / "saved", base).predict_probabilities(rows) == pytest.approx(expected, abs=1e-6)
    export = export_model(tmp_path / "saved", tmp_path / "out", ExportOptions())
    assert export.form == "program" and "chat template" in str(export.reason)
    assert read_export(tmp_path / "out", export, predictor.labels, rows) == pytest.approx(expected, abs=1e-4)


def test_it_is_another_model_than_without_the_template(folder: Path) -> None:
    plain, chat = find_model(str(folder)), find_model(f"{folder}:chat")
    assert chat.path == plain.path and chat.weights_fingerprint != plain.weights_fingerprint
    assert format_identity("smollm2-135m:chat") == f"{_name('smollm2-135m')}; asked by its chat template"
    assert format_terms(["gemma3-270m:chat"]) == format_terms(["gemma3-270m"])


def _name(name: str) -> str:
    return (format_identity(name) or "").partition(";")[0]


def test_a_model_without_a_template_cannot_be_asked_by_it(
    model_folders: dict[str, Path], chat: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="holds no chat template"):
        find_model(f"{model_folders['llama']}:chat")
    tokenizer = chat.tokenizer.source
    with pytest.raises(ModelError, match="an encoder answers no turn"):
        read_turn(tokenizer, "made-up:chat", "bidirectional")
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages[0]['content'] | upper }} now:")
    with pytest.raises(ModelError, match="does not write a user's turn"):
        read_turn(tokenizer, "made-up:chat", "causal")
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('no') }}")
    with pytest.raises(ModelError, match="cannot be used: TemplateError: no"):
        read_turn(tokenizer, "made-up:chat", "causal")


def test_the_template_counts_and_may_not_tell_the_date(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    first = find_model(f"{other}:chat").weights_fingerprint
    assert first == find_model(f"{folder}:chat").weights_fingerprint
    (other / TEMPLATE).write_text(TEXT.replace("be brief", "be long"))
    assert find_model(f"{other}:chat").weights_fingerprint != first
    assert find_model(str(other)).weights_fingerprint == find_model(str(folder)).weights_fingerprint
    (other / TEMPLATE).write_text(TEXT + "{{ strftime_now('%Y') }}")
    with pytest.raises(ModelError, match="writes the date"):
        find_model(f"{other}:chat")


def test_a_word_has_before_it_what_the_template_puts_before_an_answer(chat: LanguageModel, task: Task) -> None:
    tokenizer = copy.deepcopy(chat.tokenizer.source)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[I] ' + m['content'] + ' [/I]' }}"
        "{% else %}{{ ' ' + m['content'] }}{% endif %}{% endfor %}"
    )
    turn = read_turn(tokenizer, "made-up:chat", "causal")
    assert (turn.answer.stem, turn.answer.lead) == ("]", " ")
    encoder = Encoder(Tokenizer(tokenizer, Surroundings(turn.opening, turn.closing, answer=turn.answer)), 60, 60)
    pattern = task.patterns[0]
    assert encoder.write_label_words(pattern) == tuple(" " + word.strip() for word in pattern.label_words)


def test_it_can_be_carried_to_another_machine(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snapshot = find_model(f"{folder}:chat")
    files = pack_model(snapshot)
    assert files is not None and TEMPLATE in files
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path))
    carried = put_down_model(snapshot.name, files, snapshot.weights_fingerprint)
    assert carried.weights_fingerprint == snapshot.weights_fingerprint and carried.path != snapshot.path


def test_a_folder_is_named_so_that_it_is_found_from_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert place_model(f"{folder.name}:chat") == f"{folder}:chat"
    assert place_model("smollm2-135m:chat") == "smollm2-135m:chat"


def test_plain_and_chat_models_have_no_words_in_common(folder: Path) -> None:
    plain, chat = find_model(str(folder)), find_model(f"{folder}:chat")
    assert share_vocabulary(plain, plain) and share_vocabulary(chat, chat) and not share_vocabulary(plain, chat)
