"""Folders of saved models that must not answer, or not otherwise than before: tensors, manifests, adapters' settings.

Owns which models are saved, how each folder is changed and what `predict` must say of it. How values are changed is the
tests' own.
"""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.attack.case import Case, Kind
from benchmarks.attack.material import ASKED, HEALTHY, SAVED, TEXTS
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, Outcome, judge_crash, judge_refusal

ADAPTERS = ("lora", "dora", "ia3", "prompt", "prefix")
CONFIG, TENSORS, WEIGHTS = "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "weights.safetensors"
SPRUNG = "sprung"
"""The file that a trap writes once its module is imported."""


def predict(stage: Stage, folder: Path) -> Outcome:
    return stage.command("predict", folder, stage.material / ASKED, "--out", "answers.csv")


def copy_saved(stage: Stage, name: str) -> Path:
    """A copy of a saved model to be changed."""
    return Path(shutil.copytree(stage.material / "saved" / name, stage.folder / name))


def require_refusal(stage: Stage, folder: Path, names: Sequence[str]) -> None:
    """Caught where a model answers; where it is refused, but with lines of answers before that, too."""
    outcome = stage.command("predict", folder, stage.material / ASKED)
    judge_refusal(outcome, names)
    if any(line.startswith("label,") for line in outcome.output.splitlines()):
        raise Caught("unclear", f"a header before the refusal: {outcome}")


def bear_saved(stage: Stage, folder: Path, name: str, alike: bool) -> None:
    """A refusal may be right and so may be answers: as before where they must be alike, else one a label and row."""
    outcome = predict(stage, folder)
    judge_crash(outcome)
    if outcome.code == 2:
        return judge_refusal(outcome, ())
    if outcome.code != 0:
        raise Caught("unclear", f"neither answers nor a refusal: {outcome}")
    found, healthy = (stage.folder / "answers.csv").read_text(), (stage.material / f"{name}.{HEALTHY}").read_text()
    if alike and found != healthy:
        raise Caught("silent_wrong", f"code 0 and other answers: {found.splitlines()[1:2]}")
    rows = list(csv.reader(io.StringIO(found)))
    if len(rows) != 1 + len(TEXTS) or len({len(row) for row in rows}) != 1:
        raise Caught("silent_wrong", f"code 0 and no answer of each label to each row: {found[:200]}")
    if any(abs(sum(map(float, row[1:])) - 1) > 1e-3 for row in rows[1:]):
        raise Caught("silent_wrong", f"code 0 and no probabilities: {found[:200]}")
    return None


def spoil_tensors(stage: Stage, name: str, file: str, way: str) -> None:
    """Change the tensors of a file that the manifest vouches for: the model must be refused."""
    from changed_folders import change_tensors, seal

    folder = copy_saved(stage, name)
    change_tensors(folder / file, way)
    seal(folder)
    require_refusal(stage, folder, [file.rpartition("/")[2]])


def spoil_manifest(stage: Stage, name: str, place: Sequence[str | int], value: Any, names: Sequence[str]) -> None:
    """Replace a value of a manifest that fits its digest: the model must be refused by the field."""
    from changed_folders import change_value, write_manifest

    folder = copy_saved(stage, name)
    content = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, change_value(content, tuple(place), "replace", value))
    require_refusal(stage, folder, names)


def scramble_json(stage: Stage, name: str, file: str, seed: int, sealed: bool) -> None:
    """Change a value of a JSON file at random, with new hashes or without."""
    from changed_folders import JUNK, WAYS, change_value, list_places, seal, write_manifest

    folder, rng = copy_saved(stage, name), random.Random(seed)
    path = folder / file
    content = json.loads(path.read_text())
    changed = change_value(content, rng.choice(list(list_places(content))), rng.choice(WAYS), rng.choice(JUNK))
    if file == "manifest.json" and sealed:
        write_manifest(folder, changed)
    else:
        path.write_text(json.dumps(changed))
        if sealed:
            seal(folder)
    bear_saved(stage, folder, name, alike=not sealed)


def set_keys(stage: Stage, name: str, keys: dict[str, Any], trap: str | None = None) -> None:
    """Set keys of an adapter's settings: it must be refused by them, and no trap be sprung.

    A trap is a module where Python looks for one, so that the command is a process of its own.
    """
    from changed_folders import seal

    folder = copy_saved(stage, name)
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**content, **keys}))
    seal(folder)
    if trap is None:
        return require_refusal(stage, folder, list(keys)[:1])
    module = stage.folder / (trap.replace(".", "/") + ".py")
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(f"open({str(stage.folder / SPRUNG)!r}, 'w').close()\n")
    outcome = stage.real_command("predict", folder, stage.material / ASKED, terms=Terms(limit=120))
    if (stage.folder / SPRUNG).exists():
        raise Caught("silent_wrong", f"a module that a file names was imported: {outcome}")
    judge_refusal(outcome, list(keys)[:1])
    return None


def lose_modules(stage: Stage, kept: Sequence[str], names: Sequence[str]) -> None:
    """Have fewer modules match than the file has tensors for."""
    from changed_folders import seal

    folder = copy_saved(stage, "lora")
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**content, "target_modules": list(kept)}))
    seal(folder)
    require_refusal(stage, folder, names)


def tensor_cases(size: int) -> list[Case]:
    from changed_folders import TENSOR_CHANGES

    files = [(name, TENSORS) for name in ADAPTERS]
    files += [(name, WEIGHTS) for name in ("dora", "head", "weights", "probe", "tfidf", "majority", "knn", "nearest")]
    cases = [
        Case(f"{name}: {file.rpartition('/')[2]}: {way}", spoil_tensors, {"name": name, "file": file, "way": way})
        for name, file in files
        for way in TENSOR_CHANGES
    ]
    modules = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    for part in ("q_proj", "down_proj"):
        kept = [each for each in modules if each != part]
        cases.append(Case(f"lora: target_modules without {part}", lose_modules, {"kept": kept, "names": [part]}))
    return cases


def manifest_cases(size: int) -> list[Case]:
    three = ["bad", "good", "more"]
    wrong: list[tuple[str, tuple[str | int, ...], Any, list[str]]] = [
        *((name, ("labels",), three, ["3"]) for name in SAVED),
        *((name, ("labels",), ["good", "good"], ["labels", "good"]) for name in ("majority", "lora")),
        *((name, ("scorer", "template"), "{body}", ["body"]) for name in ("tfidf", "lora", "probe")),
        *((name, ("scorer", "template"), "{", ["template"]) for name in ("tfidf", "lora", "nearest")),
        ("tfidf", ("scorer", "vocabulary"), ["good", "good"], ["vocabulary"]),
        ("tfidf", ("scorer", "vocabulary"), ["good"], ["inverse_frequencies"]),
        ("tfidf", ("scorer", "longest_phrase"), 1, ["vocabulary"]),
        ("tfidf", ("scorer", "regression", "classes"), [0, 2], ["classes"]),
        ("tfidf", ("scorer", "regression", "classes"), [1, 0], ["classes"]),
        ("probe", ("scorer", "block"), 9, ["block"]),
        ("probe", ("scorer", "max_positions"), 10**6, ["max_positions"]),
        ("prompt", ("scorer", "max_positions"), 128, ["max_positions"]),
        ("prefix", ("scorer", "network", "layers"), [0, 1, 7], ["layers"]),
        ("knn", ("scorer", "readout", "labels_of"), [0, 1, 2, 0, 1, 2], ["labels_of"]),
        ("lora", ("scorer", "readout", "tokens"), [[5], [10**6]], ["tokens"]),
        ("contexts", ("scorer", "contexts", 1, "log_prior"), [-1.0], ["log_prior"]),
        ("majority", ("temperature",), 1e-300, ["temperature"]),
    ]
    cases = [
        Case(
            f"{name}: {'.'.join(map(str, place))} is {value!r:.40}",
            spoil_manifest,
            {"name": name, "place": list(place), "value": value, "names": names},
        )
        for name, place, value, names in wrong
    ]
    return [*cases, *_scramble(list(SAVED), "manifest.json", size)]


def settings_cases(size: int) -> list[Case]:
    megatron = {"megatron_config": {"tensor_model_parallel_size": 1}}
    pattern = r"(\w+\.?)+!"
    keys: list[tuple[str, dict[str, Any], str | None]] = [
        ("lora", megatron | {"megatron_core": "trap"}, "trap"),
        ("lora", megatron | {"megatron_core": "megatron.trap"}, "megatron.trap"),
        ("lora", {"auto_mapping": {"parent_library": "trap", "base_model_class": "Base"}}, "trap"),
        ("prompt", {"tokenizer_kwargs": {"trust_remote_code": True}, "tokenizer_name_or_path": "."}, None),
        ("ia3", {"feedforward_modules": pattern}, None),
        *((name, {"target_modules": pattern}, None) for name in ("lora", "ia3")),
        *((name, {"exclude_modules": pattern}, None) for name in ("lora", "ia3")),
        ("lora", {"target_modules": [pattern]}, None),
        ("lora", {"layers_pattern": pattern}, None),
        ("lora", {"rank_pattern": {pattern: 4}}, None),
        ("lora", {"modules_to_save": ["lm_head"]}, None),
        ("lora", {"r": 10**9}, None),
        ("prefix", {"prefix_projection": True}, None),
        ("prompt", {"peft_type": "P_TUNING"}, None),
        ("lora", {"a_key_of_tomorrow": 3}, None),
    ]
    cases = [
        Case(f"{name}: {', '.join(found)}", set_keys, {"name": name, "keys": found, "trap": trap})
        for name, found, trap in keys
    ]
    return [*cases, *_scramble(ADAPTERS, CONFIG, size)]


def _scramble(names: Sequence[str], file: str, size: int) -> list[Case]:
    """So many changes at random, spread over the models, every other one with new hashes."""
    return [
        Case(
            f"{name}: {file} changed ({seed})",
            scramble_json,
            {"name": name, "file": file, "seed": seed, "sealed": bool(seed % 2)},
        )
        for seed, name in ((seed, names[seed // 2 % len(names)]) for seed in range(size))
    ]


KINDS = (
    Kind("tensors of a saved model missing, unexpected, not as they must be", 14, tensor_cases),
    Kind("manifests of a saved model at odds with themselves and their files", 15, manifest_cases, size=120),
    Kind("settings of a saved adapter that would run something", 16, settings_cases, size=60),
)
