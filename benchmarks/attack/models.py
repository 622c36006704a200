"""Model folders that must not be run, or not as they seem: weights, configurations, tokenizers, architectures.

Owns how each is made of a healthy tiny model, and what `check` and `run` must say of it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.material import (
    FROZEN,
    copy_model,
    read_outcomes,
    require_done,
    require_equal,
    study_of,
)
from benchmarks.attack.stage import Stage
from benchmarks.attack.verdict import Caught, judge_crash, judge_refusal

JUNK: tuple[Any, ...] = (None, 7, -1, 0, 1e308, "x", "", [], ["x"], {}, {"x": 1}, True, "\ud800", 10**30)
"""Values of other types than a field has."""

MUST_BE_NUMBERS = ("num_hidden_layers", "vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")


def refuse_model(stage: Stage, spoil: str, names: Sequence[str] = (), **how: Any) -> None:
    """Spoil a model: `check` must refuse it."""
    folder = copy_model(stage)
    SPOILERS[spoil](folder, **how)
    _refuse(stage, folder, names)


def _refuse(stage: Stage, folder: Path, names: Sequence[str]) -> None:
    study = study_of(stage, model=folder, methods=FROZEN)
    checked = stage.command("check", study)
    judge_crash(checked)
    if checked.code == 0:
        ran = stage.command("run", study, "--out", "out")
        judge_crash(ran)
        found = read_outcomes(stage.folder / "out") if (stage.folder / "out" / "trials").is_dir() else {}
        done = [name for name, each in found.items() if each["status"] == "done" and str(folder) in name]
        if done:
            raise Caught("silent_wrong", f"check passes and {len(done)} of {len(found)} trials are done")
        failure = next((each["failure"] for each in found.values() if each["failure"]), None)
        raise Caught("unclear", f"check passes; {failure or ran}"[:400])
    judge_refusal(checked, names)


def bear_model(stage: Stage, spoil: str, **how: Any) -> None:
    """Spoil a model where both may be right: a refusal by `check`, or trials that end as those of the healthy one."""
    folder = copy_model(stage)
    SPOILERS[spoil](folder, **how)
    study = study_of(stage, model=folder, methods=FROZEN)
    checked = stage.command("check", study)
    judge_crash(checked)
    if checked.code == 2:
        return judge_refusal(checked, ())
    ran = stage.command("run", study, "--out", "out")
    judge_crash(ran)
    failures = [each["failure"] for each in read_outcomes(stage.folder / "out").values() if each["failure"]]
    if failures:
        raise Caught("unclear", f"check passes; {failures[0]}"[:400])
    return None


def pass_model(stage: Stage, spoil: str, **how: Any) -> None:
    """Change a model into an equal one: it must run to the same answers."""
    folder = copy_model(stage)
    SPOILERS[spoil](folder, **how)
    found = []
    for name, place in (("out", folder), ("healthy", stage.material / "model")):
        ran = stage.command("run", study_of(stage, model=place, methods=FROZEN), "--out", name)
        found.append(require_done(stage.folder / name, ran))
    require_equal(
        *(
            {key.replace(str(p), ""): e for key, e in each.items()}
            for each, p in zip(found, (folder, stage.material / "model"), strict=True)
        )
    )


def skip_encoder(stage: Stage, kind: str) -> None:
    """On an encoder, what needs a decoder is skipped with the reason, before it runs and after; the rest is done."""
    folder = copy_model(stage)
    save_network(folder, kind)
    study = study_of(stage, model=folder, methods=FROZEN)
    for command in (("check", study), ("run", study, "--out", "out")):
        outcome = stage.command(*command)
        judge_crash(outcome)
        if outcome.code != 0 or "the model is an encoder" not in " ".join(outcome.output.split()):
            raise Caught("unclear", f"says nothing of an encoder: {outcome}")
    for name, each in read_outcomes(stage.folder / "out").items():
        if each["status"] != ("skipped" if "in_context" in name else "done"):
            raise Caught("silent_wrong", f"{name} is {each['status']}: {each['failure']}")


def notice_replaced_weights(stage: Stage) -> None:
    """Weights replaced by others of equal size and time between two runs are other weights."""
    folder = copy_model(stage)
    study = study_of(stage, model=folder, methods=FROZEN)
    first = require_done(stage.folder / "one", stage.command("run", study, "--out", "one"))
    file = folder / "model.safetensors"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-4000:] = content[-8000:-4000]
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = require_done(stage.folder / "two", stage.command("run", study, "--out", "two"))
    for name, each in first.items():
        if each["weights"] is not None and each["weights"] == second[name]["weights"]:
            raise Caught("silent_wrong", f"{name}: other weights of equal size and time keep their fingerprint")


def tell_equal_folders(stage: Stage, spoil: str | None = None, **how: Any) -> None:
    """Two folders of equal weights: said, or refused; a broken one listed first does not take the other's results."""
    first, second = copy_model(stage, "first"), copy_model(stage, "second")
    if spoil is not None:
        SPOILERS[spoil](first, **how)
    study = study_of(stage, model=f"{first}, {second}", methods=FROZEN)
    checked = stage.command("check", study)
    judge_crash(checked)
    ran = stage.command("run", study, "--out", "out")
    judge_crash(ran)
    if ran.code == 2:
        return judge_refusal(ran, ["first"])
    found = read_outcomes(stage.folder / "out")
    models = {place for place in (first, second) for name in found if str(place) in name}
    flat = "".join(ran.output.split())
    if len(models) < 2 and not (str(first) in flat and str(second) in flat):
        raise Caught("silent_wrong", f"two folders of equal weights are one, unsaid: {sorted(found)}"[:300])
    if any(each["status"] != "done" for name, each in found.items() if str(second) in name):
        raise Caught("silent_wrong", "the healthy folder has the broken one's results")
    return None


def _change_tensors(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def drop_tensors(folder: Path, part: str) -> None:
    _change_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if part not in k})


def rename_tensors(folder: Path, part: str, new: str) -> None:
    _change_tensors(folder, lambda tensors: {k.replace(part, new): v for k, v in tensors.items()})


def add_tensor(folder: Path, key: str) -> None:
    import torch

    _change_tensors(folder, lambda tensors: {**tensors, key: torch.ones(3)})


def reshape_tensor(folder: Path, part: str) -> None:
    _change_tensors(folder, lambda tensors: {k: v[:-1].clone() if part in k else v for k, v in tensors.items()})


def poison_tensor(folder: Path, part: str, value: str) -> None:
    def poison(tensors: dict[str, Any]) -> dict[str, Any]:
        for name, tensor in tensors.items():
            if part in name:
                tensor.view(-1)[3] = float(value)
        return tensors

    _change_tensors(folder, poison)


def set_config(folder: Path, file: str = "config.json", **values: Any) -> None:
    path = folder / file
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **values}))


def write_text(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)


def write_deep(folder: Path, file: str, opening: str, times: int) -> None:
    (folder / file).write_text(opening * times)


def delete_file(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


def cut_file(folder: Path, file: str, share: float) -> None:
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(share * len(content))])


def scramble_file(folder: Path, file: str, seed: int, first: int) -> None:
    content = bytearray((folder / file).read_bytes())
    rng = random.Random(seed)
    for _ in range(5):
        content[rng.randrange(min(first, len(content)))] = rng.randrange(256)
    (folder / file).write_bytes(content)


def untie(folder: Path, head: bool) -> None:
    """The head's weights apart from the embeddings; without `head` they are not saved."""

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        return {**tensors, **({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()} if head else {})}

    _change_tensors(folder, change)
    set_config(folder, tie_word_embeddings=False)


def save_network(folder: Path, kind: str, tied: bool = False) -> None:
    """Another network's weights and configuration beside the same tokenizer."""
    import torch
    import transformers

    small: dict[str, Any] = {"vocab_size": 400, "num_hidden_layers": 2, "max_position_embeddings": 130}
    wide = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    configs: dict[str, dict[str, Any]] = {
        "LlamaModel": small | wide | {"tie_word_embeddings": tied},
        "LlamaForSequenceClassification": small | wide | {"tie_word_embeddings": tied},
        "GPT2Model": {"vocab_size": 400, "n_embd": 32, "n_layer": 2, "n_head": 4, "tie_word_embeddings": tied},
        "BertForMaskedLM": small | wide,
        "BertLMHeadModel": small | wide | {"is_decoder": True},
        "RobertaForMaskedLM": small | wide,
        "ElectraForMaskedLM": small | wide | {"embedding_size": 32},
        "DistilBertForMaskedLM": {"vocab_size": 400, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
        "GPTNeoForCausalLM": {
            "vocab_size": 400, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]
        },
        "BloomForCausalLM": {"vocab_size": 400, "hidden_size": 32, "n_layer": 2, "n_head": 4},
        "XLNetLMHeadModel": {"vocab_size": 400, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        "T5ForConditionalGeneration": {"vocab_size": 400, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 48},
    }  # fmt: skip
    network_class = getattr(transformers, kind)
    config = network_class.config_class(**configs[kind], **(special if "T5" not in kind else {}))
    torch.manual_seed(3)
    network = network_class(config)
    kept = folder.parent / "network"
    network.save_pretrained(kept)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(kept / name, folder / name)
    (folder / "generation_config.json").unlink(missing_ok=True)


def write_index(folder: Path, target: str) -> None:
    """An index of weights that names such a file for every tensor."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        keys = list(file.keys())
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, target)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def add_adapter(folder: Path, text: str) -> None:
    (folder / "adapter_config.json").write_text(text)


def shrink_vocabulary(folder: Path) -> None:
    _change_tensors(folder, lambda tensors: {k: v[:300].clone() if "embed" in k else v for k, v in tensors.items()})
    set_config(folder, vocab_size=300)


def keep(folder: Path) -> None:
    """Nothing: the healthy model, as a control."""


SPOILERS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        drop_tensors, rename_tensors, add_tensor, reshape_tensor, poison_tensor, set_config, write_text, write_deep,
        delete_file, cut_file, scramble_file, untie, save_network, write_index, add_adapter, shrink_vocabulary, keep,
    )
}  # fmt: skip
"""Ways to spoil a model folder, by name: cases travel between processes."""


def _refused(name: str, spoil: str, names: Sequence[str] = (), **how: Any) -> Case:
    return Case(name, refuse_model, {"spoil": spoil, "names": names, **how})


def _borne(name: str, spoil: str, **how: Any) -> Case:
    return Case(name, bear_model, {"spoil": spoil, **how})


def _passed(name: str, spoil: str, **how: Any) -> Case:
    return Case(name, pass_model, {"spoil": spoil, **how})


def weights_cases(size: int) -> list[Case]:
    return [
        _refused("a layer is missing", "drop_tensors", ["layers.1."], part="layers.1."),
        _refused("a norm is missing", "drop_tensors", ["model.norm"], part="model.norm"),
        _refused("renamed tensors", "rename_tensors", ["q_proj"], part="q_proj", new="query"),
        _refused("renamed prefix", "rename_tensors", [], part="model.", new="network."),
        _refused("more layers configured", "set_config", ["layers.3."], num_hidden_layers=4),
        _refused("fewer layers configured", "set_config", ["layers.2."], num_hidden_layers=2),
        _refused("an extra tensor", "add_tensor", ["model.extra"], key="model.extra.weight"),
        _refused("a mis-shaped tensor", "reshape_tensor", ["up_proj"], part="layers.0.mlp.up_proj"),
        _refused("a head that is not saved", "untie", ["lm_head"], head=False),
        _refused("LlamaModel", "save_network", ["lm_head"], kind="LlamaModel"),
        _refused("LlamaForSequenceClassification", "save_network", [], kind="LlamaForSequenceClassification"),
        _refused("embeddings are missing", "drop_tensors", ["embed_tokens"], part="embed_tokens"),
        _passed("an untied head that is saved", "untie", head=True),
        _passed("a tied head is not missing", "keep"),
        _borne("a tied LlamaModel", "save_network", kind="LlamaModel", tied=True),
        _borne("a tied GPT2Model", "save_network", kind="GPT2Model", tied=True),
    ]


def infinite_cases(size: int) -> list[Case]:
    parts = ("embed_tokens", "layers.1.mlp.down_proj", "model.norm")
    return [
        _refused(f"{value} in {part}", "poison_tensor", [part], part=part, value=value)
        for part in parts
        for value in ("nan", "inf")
    ]


def architecture_cases(size: int) -> list[Case]:
    encoders = ("BertForMaskedLM", "RobertaForMaskedLM", "ElectraForMaskedLM", "DistilBertForMaskedLM")
    others = ("GPTNeoForCausalLM", "BloomForCausalLM", "XLNetLMHeadModel", "T5ForConditionalGeneration")
    return [
        *(Case(kind, skip_encoder, {"kind": kind}) for kind in encoders),
        *(
            _refused(kind, "save_network", [kind.split("For")[0].split("LMHead")[0]], kind=kind)
            for kind in (*others, "BertLMHeadModel")
        ),
    ]


def config_cases(size: int) -> list[Case]:
    cases = []
    for file in ("config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"):
        spoil = _borne if file == "generation_config.json" else _refused
        for text in ("[1]", "7", '"x"', "null", "true", "", "{", "\x00", "[" * 100_000, '{"a":' * 5000):
            given = {"file": file, "text": text}
            cases.append(spoil(f"{file} is {text[:12]!r}", "write_text", **given))
    return cases


def field_cases(size: int) -> list[Case]:
    rng = random.Random(5)
    fields = {
        "config.json": (
            "num_hidden_layers", "vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads",
            "intermediate_size", "max_position_embeddings", "architectures", "model_type", "rms_norm_eps", "hidden_act",
            "rope_parameters", "rope_theta", "dtype", "torch_dtype", "layer_types", "tie_word_embeddings",
            "quantization_config", "auto_map", "bos_token_id", "pad_token_id", "head_dim", "attention_dropout",
            "is_encoder_decoder", "sliding_window", "final_logit_softcapping", "id2label", "num_labels",
        ),
        "tokenizer_config.json": (
            "tokenizer_class", "eos_token", "pad_token", "added_tokens_decoder", "model_max_length", "add_bos_token",
            "extra_special_tokens", "chat_template", "clean_up_tokenization_spaces", "auto_map",
        ),
    }  # fmt: skip
    drawn = [(file, name, value) for file, names in fields.items() for name in names for value in JUNK]
    rng.shuffle(drawn)
    cases = []
    for file, name, value in drawn[:size]:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        wrong = file == "config.json" and name in MUST_BE_NUMBERS and not number
        make = _refused if wrong and value is not None else _borne
        cases.append(make(f"{file}: {name} is {value!r:.30}", "set_config", file=file, **{name: value}))
    return cases


def file_cases(size: int) -> list[Case]:
    weights = "model.safetensors"
    cases = [
        _refused(f"weights cut to {share:g}", "cut_file", [weights], file=weights, share=share)
        for share in (0, 0.00001, 0.0001, 0.01, 0.5, 0.999999)
    ]
    cases += [
        _borne(f"weights' header scrambled ({seed})", "scramble_file", file=weights, seed=seed, first=2000)
        for seed in range(max(2, size // 2))
    ]
    cases += [
        _borne(f"tokenizer scrambled ({seed})", "scramble_file", file="tokenizer.json", seed=seed, first=20_000)
        for seed in range(max(2, size // 2))
    ]
    return [
        *cases,
        _refused("no tokenizer", "delete_file", ["tokenizer"], pattern="tokenizer*"),
        _refused("no tokenizer.json", "delete_file", ["tokenizer"], pattern="tokenizer.json"),
        _refused("no config.json", "delete_file", ["config.json"], pattern="config.json"),
        _refused("no weights", "delete_file", ["safetensors"], pattern="*.safetensors"),
        _refused("a vocabulary smaller than the tokenizer", "shrink_vocabulary", ["300", "token"]),
    ]


def beside_cases(size: int) -> list[Case]:
    index = "model.safetensors.index.json"
    adapter = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "nowhere/to-be-found", "r": 4})
    return [
        _refused("the index names a .bin", "write_index", [".bin"], target="pytorch_model.bin"),
        _refused("the index names a file that is missing", "write_index", ["other"], target="other.safetensors"),
        _refused("the index names a file elsewhere", "write_index", ["../"], target="../x.safetensors"),
        *(_borne(f"the index is {text!r}", "write_text", file=index, text=text) for text in ("[]", "7", "{", "{}")),
        _borne("adapter_config.json beside the weights", "add_adapter", text=adapter),
        _borne("adapter_config.json is a list", "add_adapter", text="[1]"),
        Case("replaced weights of equal size and time", notice_replaced_weights),
        Case("two folders of equal weights", tell_equal_folders),
        Case("a broken folder before a healthy one: adapter", tell_equal_folders,
             {"spoil": "add_adapter", "text": adapter}),
        Case("a broken folder before a healthy one: index", tell_equal_folders,
             {"spoil": "write_index", "target": "pytorch_model.bin"}),
    ]  # fmt: skip


KINDS = (
    Kind("weights missing, renamed, unexpected, mis-shaped", 1, weights_cases),
    Kind("weights that are not finite", 1, infinite_cases),
    Kind("networks that are no causal language model for packed rows", 2, architecture_cases),
    Kind("model JSON of another type, broken or deep", 10, config_cases),
    Kind("model JSON with wrong-typed fields", 10, field_cases, size=120),
    Kind("model files cut, scrambled, missing", 11, file_cases, size=24),
    Kind("index, adapter and equal weights beside one another", 12, beside_cases),
)
