"""`--set path.to.key=value`: changes to a study as written, before it is resolved.

Owns finding the place and putting the value there. Does not know which values are allowed.
"""

from __future__ import annotations

from typing import Any

from fewtune.errors import Fault, shorten
from fewtune.study.draft import Draft, Steps, join_steps, name_kind
from fewtune.study.values import ModelChoice
from fewtune.study.yaml_text import NotYamlError, read_yaml


def apply_override(draft: Draft, override: str) -> None:
    """Put the value of `path.to.key=value` into the draft."""
    shown = shorten(override)
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        draft.faults.append(Fault(f"--set {shown}: write path.to.key=value, for example shots=[16]."))
        return
    aside = Draft()
    try:
        value, _ = read_yaml(text, aside)
    except NotYamlError as error:
        draft.faults.append(Fault(f"--set {shown}: its value is refused: {error}"))
        return
    if aside.faults:
        draft.faults.extend(Fault(f"--set {shown}: {fault.message}") for fault in aside.faults)
        return
    steps: Steps = ()
    holder: Any = draft.data
    for position, key in enumerate(keys):
        step = _find_step(draft, override, holder, key, steps)
        if step is None:
            return
        steps = (*steps, step)
        if position == len(keys) - 1:
            holder[step] = value
        elif isinstance(holder, dict):
            if holder.get(step) is None:
                holder[step] = {}
                draft.overrides.setdefault(steps, override)
            holder = _open_entry(holder, step, steps, keys[position + 1])
        else:
            holder = _open_entry(holder, step, steps, keys[position + 1])
    for places in (draft.lines, draft.overrides):
        for stale in [place for place in places if place[: len(steps)] == steps]:
            del places[stale]
    draft.overrides[steps] = override


def _find_step(draft: Draft, override: str, holder: Any, key: str, steps: Steps) -> str | int | None:
    """The key or list position that `key` means inside `holder`; None after noting a fault."""
    where = f"`{join_steps(steps)}`"
    if isinstance(holder, dict):
        return key
    if isinstance(holder, list):
        if key.isdecimal() and len(key) < 10 and int(key) < len(holder):
            return int(key)
        if holder:
            allowed = "0" if len(holder) == 1 else f"0 to {len(holder) - 1}"
            message = f"{shorten(key)!r} is no position in {where}. Allowed: {allowed}."
        else:
            message = f"{where} is an empty list: set the whole list."
    else:
        message = (
            f"{where} is {name_kind(holder)}: there is no {shorten(key)!r} in it. Set the whole of it, {where[1:-1]}=…"
        )
    draft.faults.append(Fault(f"--set {shorten(override)}: {message}"))
    return None


def _open_entry(holder: Any, step: Any, steps: Steps, key: str) -> Any:
    """What stands at `step`; an entry written as a bare name is first written out as a mapping."""
    entry = holder[step]
    if isinstance(entry, str) and len(steps) == 2 and steps[0] == "models" and key in ModelChoice.model_fields:
        holder[step] = {"name": entry}
    elif isinstance(entry, str) and len(steps) == 2 and steps[0] in ("tasks", "methods") and key == entry:
        holder[step] = {entry: {}}
    return holder[step]
