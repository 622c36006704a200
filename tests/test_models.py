"""Models are read whole in the dtype asked for, copied afresh for each trial, and known by their content."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    Gemma2Config,
    Lfm2Config,
    MistralConfig,
    T5Config,
)

import fewtune
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel, SharedNetworks
from fewtune.engine.loading import load_model
from fewtune.engine.model_cache import ModelCache
from fewtune.engine.readouts import LabelWordReadout, StateReadout
from fewtune.engine.score import score_prompts
from fewtune.errors import ModelError
from fewtune.methods.trainable import train_last_blocks
from fewtune.models import find_model, inspect_model, precision, refuse_unsuited, resolve_precision
from fewtune.models.architectures import architecture_of
from fewtune.running.cost import count_shared

PROMPTS = [[40 + i, 41, 42, 43, 44, 45 + i] for i in range(8)]


def test_bfloat16_scores_stay_near_float32(model_folders: dict[str, Path], model: LanguageModel) -> None:
    place = find_model(str(model_folders[next(n for n, p in model_folders.items() if str(p) == model.name)]))
    half = load_model(place, "bfloat16")
    readout = LabelWordReadout([[70], [71]])
    exact = score_prompts(Forward(model.frozen, "float32"), PROMPTS, readout)
    near = score_prompts(Forward(half.frozen, "bfloat16"), PROMPTS, readout)
    np.testing.assert_allclose(near, exact, atol=0.05 * np.abs(exact).max() + 0.05)
    assert not np.array_equal(near, exact)


def test_what_trains_is_float32_and_frozen_matrices_are_in_the_compute_dtype(model_folders: dict[str, Path]) -> None:
    half = load_model(find_model(str(model_folders["llama"])), "bfloat16")
    assert {p.dtype for p in half.trainable_copy().parameters()} == {torch.float32}
    frozen = dict(half.frozen.named_parameters())
    assert frozen["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16
    assert frozen["model.norm.weight"].dtype == torch.float32
    assert half.frozen.get_output_embeddings().weight.dtype == torch.float32
    assert half.frozen.get_output_embeddings().weight is half.frozen.get_input_embeddings().weight


def test_training_a_copy_leaves_the_next_copy_alone(models: dict[str, LanguageModel]) -> None:
    first = models["llama"].trainable_copy()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1.0)
    fresh = models["llama"].trainable_copy()
    for one, other in zip(fresh.parameters(), models["llama"].frozen.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_model_is_known_by_its_content_and_not_by_its_folder(model_folders: dict[str, Path], tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere"
    shutil.copytree(model_folders["llama"], copied)
    original = find_model(str(model_folders["llama"])).weights_fingerprint
    assert find_model(str(copied)).weights_fingerprint == original
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "transformers_version": "0"}))
    assert find_model(str(copied)).weights_fingerprint == original
    (copied / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    assert find_model(str(copied)).weights_fingerprint != original
    (copied / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((copied / "tokenizer_config.json").read_text())
    (copied / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "do_lower_case": False}))
    assert find_model(str(copied)).weights_fingerprint != original, "some classes take it from there alone"
    prints = {original}
    for opens in (True, False):
        (copied / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "add_bos_token": opens}))
        prints.add(find_model(str(copied)).weights_fingerprint)
    assert len(prints) == 3
    (copied / "tokenizer.json").unlink()  # older folders hold a list of words instead
    for words in ("good\nbad\n", "bad\ngood\n"):
        (copied / "vocab.txt").write_text(words)
        prints.add(find_model(str(copied)).weights_fingerprint)
    assert len(prints) == 5
    for lower in (True, False):
        changed = {**tokenizer, "add_bos_token": False, "do_lower_case": lower}
        (copied / "tokenizer_config.json").write_text(json.dumps(changed))
        prints.add(find_model(str(copied)).weights_fingerprint)
    assert len(prints) == 6, "it lowers case as usual: no other model"


def test_a_special_token_that_the_network_does_not_know_is_read_as_its_spelling(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    inspect_model(find_model(str(folder)))
    model = load_model(find_model(str(folder)), "float32")
    plain, held = model.tokenizer.tokenise(["a good form", "the form has [PAD] in it"])
    rows = model.frozen.get_input_embeddings().weight.shape[0]
    assert tokenizer.pad_token_id >= rows > max(held) and plain == tokenizer("a good form").input_ids
    assert model.tokenizer.decode(held, skip_special=False) == "the form has [PAD] in it"


def test_whatever_breaks_between_here_and_the_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class ProxyError(Exception):
        """As the hub's client raises it: no OSError."""

    def refuse(*_: object, **__: object) -> None:
        raise ProxyError("407 Proxy Authentication Required")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match=r"could not be downloaded.*407 Proxy.*HF_HUB_OFFLINE"):
        find_model("owner/name")


def test_a_hub_cache_without_room_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fill)
    with pytest.raises(ModelError, match=r"could not be kept in the cache .* \(No space left on device\)\. Make room"):
        find_model("owner/name")


def test_a_cache_with_a_part_of_a_model_is_told_from_a_model_without_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    for offline, told in ((False, "Name the revision"), (True, "the cache holds a part of it")):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        with pytest.raises(ModelError, match=told):
            find_model("owner/name")


def test_a_hub_model_is_known_by_its_commit(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[str | None] = []

    def fetch(name: str, revision: str | None, **_: object) -> str:
        commits.append(revision)
        return str(shutil.copytree(model_folders["llama"], tmp_path / "c0ffee", dirs_exist_ok=True))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    found = find_model("owner/name")
    model = load_model(found, "float32")
    assert found.revision == model.revision == "c0ffee" and commits == [None]
    texts = ["came early and whole", "a pleasure to use", "crushed and wet", "it stopped after a day"]
    predictor = fewtune.fit(texts, ["praise", "praise", "complaint", "complaint"], "probe", "owner/name")
    predictor.save(tmp_path / "saved")
    commits.clear()
    fewtune.load(tmp_path / "saved")
    assert commits == ["c0ffee"], "whatever its main branch has become"

    def lack(name: str, revision: str | None, **given: object) -> str:
        if revision is not None:
            raise OSError("not in the cache")
        return fetch(name, revision)

    monkeypatch.setattr("huggingface_hub.snapshot_download", lack)
    fewtune.load(tmp_path / "saved")
    assert commits == ["c0ffee", None], "an equal one will do"
    changed = json.loads((tmp_path / "c0ffee" / "config.json").read_text())
    model_copy = Path(shutil.copytree(model_folders["llama"], tmp_path / "changed"))
    (model_copy / "config.json").write_text(json.dumps({**changed, "rms_norm_eps": 0.5}))

    def fetch_changed(name: str, revision: str | None, **given: object) -> str:
        return lack(name, revision) if revision is not None else str(model_copy)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch_changed)
    with pytest.raises(ModelError, match="could not be downloaded and is not in the cache"):
        fewtune.load(tmp_path / "saved")


def test_a_process_reads_a_model_once(model_folders: dict[str, Path]) -> None:
    cache, place = ModelCache(), find_model(str(model_folders["llama"]))
    assert cache.get(place, "float32") is cache.get(place, "float32")


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickles")
    with pytest.raises(ModelError, match=r"config\.json and \*\.safetensors; found pytorch_model\.bin"):
        find_model(str(tmp_path))


def test_a_damaged_configuration_is_told(model_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(model_folders["llama"], tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text('{"model_type": "lla')
    with pytest.raises(ModelError, match=r"config\.json: not readable as JSON"):
        find_model(str(tmp_path / "damaged"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (T5Config(), "'t5', an encoder with a decoder"),
        (
            Lfm2Config(num_hidden_layers=2, layer_types=["conv", "full_attention"]),
            r"no attention over whole rows \(conv\)",
        ),
        (Gemma2Config(), "changes its logits or attention"),
    ],
)
def test_networks_that_packed_rows_cannot_run_through_are_refused_by_their_configuration(
    config: Any, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        refuse_unsuited("it", config)


def save_beside(folder: Path, tokenizer_from: Path, config: Any) -> Path:
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_from).save_pretrained(folder)
    return folder


def test_attention_that_cannot_be_replaced_is_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    config = BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4)
    folder = save_beside(tmp_path / "bloom", model_folders["llama"], config)
    with pytest.raises(ModelError, match="BloomForCausalLM, whose attention is written into it"):
        inspect_model(find_model(str(folder)))


def test_a_window_is_exact_until_rows_exceed_it_and_then_refused(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = MistralConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    model = load_model(find_model(str(save_beside(tmp_path / "m", model_folders["llama"], config))), "float32")
    forward, rows = Forward(model.frozen, "float32"), [[5, 6, 7, 8, 9, 10, 11, 12], [7, 9]]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    with torch.no_grad():
        states = forward.hidden_states(forward.pack(rows)).split([8, 2])
        for row, found in zip(rows, states, strict=True):
            expected = plain.model(torch.tensor([row])).last_hidden_state[0]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        with pytest.raises(ModelError, match=r"a row has 9 tokens .* no more than 8 back"):
            forward.hidden_states(forward.pack([list(range(5, 14))]))


def test_logits_changed_after_the_head_are_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(model_folders["llama"], tmp_path / "capped")
    config = json.loads((tmp_path / "capped" / "config.json").read_text())
    (tmp_path / "capped" / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 30.0}))
    with pytest.raises(ModelError, match="final_logit_softcapping"):
        load_model(find_model(str(tmp_path / "capped")), "float32")


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_configuration_that_asks_for_tuples_changes_no_answer(
    name: str, model_folders: dict[str, Path], models: dict[str, LanguageModel], tmp_path: Path
) -> None:
    shutil.copytree(model_folders[name], tmp_path / "tuples")
    config = json.loads((tmp_path / "tuples" / "config.json").read_text())
    (tmp_path / "tuples" / "config.json").write_text(json.dumps({**config, "return_dict": False}))
    network = load_model(find_model(str(tmp_path / "tuples")), "float32").frozen
    readout = StateReadout()
    expected = score_prompts(Forward(models[name].frozen, "float32"), PROMPTS, readout)
    np.testing.assert_array_equal(score_prompts(Forward(network, "float32"), PROMPTS, readout), expected)


def test_precision_is_what_is_asked_or_what_the_machine_does_natively() -> None:
    assert resolve_precision("float32") == "float32" and resolve_precision("bfloat16") == "bfloat16"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("avx512f avx512_bf16 avx512_vnni", "bfloat16"),
        ("avx512f amx_bf16 amx_tile", "bfloat16"),
        ("fp asimd bf16 i8mm", "bfloat16"),
        ("avx2 avx512f avx512bw", "float32"),
        (None, "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    flags: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags: {flags}\n")
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "_has_cuda_device", lambda: False)
    assert resolve_precision("auto") == found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: run on a machine with one")
def test_a_model_on_a_gpu_scores_as_on_the_processor(
    model_folders: dict[str, Path], models: dict[str, LanguageModel]
) -> None:
    on_gpu = load_model(find_model(str(model_folders["llama"])), "float32")
    assert on_gpu.device.type == "cuda"
    readout = LabelWordReadout([[70], [71]])
    network = models["llama"].frozen.to("cpu")
    expected = score_prompts(Forward(network, "float32"), PROMPTS, readout)
    np.testing.assert_allclose(score_prompts(Forward(on_gpu.frozen, "float32"), PROMPTS, readout), expected, atol=1e-3)


def test_an_adaptable_copy_shares_the_frozen_networks_tensors_and_what_trains_is_its_own(model: LanguageModel) -> None:
    network = model.adaptable_copy()
    assert model.shared_bytes([network]) == model.shared_bytes([network, model.frozen]) > 0
    made = train_last_blocks(model, 1, 1e-3)
    trained, groups = made.network, made.groups
    own = sum(4 * p.numel() for group in groups for p in group.parameters)
    assert model.shared_bytes([trained]) == model.shared_bytes([model.frozen]) - own
    assert model.shared_bytes([model.trainable_copy()]) == 0
    assert not any(p.requires_grad for p in architecture_of(network).find_blocks(network)[-1].parameters())


def test_what_a_gpu_freed_of_the_frozen_network_to_train_counts_as_held(model: LanguageModel) -> None:
    frozen, networks = model.frozen, [model.frozen]
    there = model.count_frozen_bytes()
    assert there == sum(p.numel() * p.element_size() for p in frozen.parameters()) > 0
    own = model.shared_bytes(networks)
    assert count_shared(model, networks, there + 1000) == own, "a processor's shared pages are not counted"
    on_gpu = Mock(wraps=model, device=torch.device("cuda"))
    assert count_shared(on_gpu, networks, there) == own and count_shared(on_gpu, networks, there + 1000) == own + 1000


@pytest.mark.parametrize("in_bfloat16", [False, True])
def test_a_network_goes_to_its_device_as_it_is_held_there(model: LanguageModel, in_bfloat16: bool) -> None:
    """The device of shapes without values stands for one of another kind than the processor."""
    away = SharedNetworks(model.networks.read, model.networks.sketch, torch.device("meta"))
    network, here = away.find_frozen(in_bfloat16), model.networks.find_frozen(in_bfloat16)
    assert {t.device.type for t in (*network.parameters(), *network.buffers())} == {"meta"}
    one, other = (
        {name: p.dtype for name, p in each.named_parameters(remove_duplicate=False)} for each in (network, here)
    )
    assert one == other


def test_nothing_is_printed_by_what_libraries_import() -> None:
    """bitsandbytes warns on processors with AVX-512 BF16 that a faster kernel is missing."""
    code = "import fewtune.engine.low_rank"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
