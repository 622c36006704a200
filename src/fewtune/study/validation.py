"""Validates values against a dataclass, with a worded and located message for every fault.

Owns the use of pydantic and the wording of its errors. Does not know what the values mean.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from fewtune.errors import FewtuneError, name_choices, shorten
from fewtune.study.draft import Draft, Steps, join_steps, show_value
from fewtune.study.settings import Shape, adapter_of


def _list_fields(shape: type[Any]) -> list[str]:
    if issubclass(shape, BaseModel):
        return list(shape.model_fields)
    return [item.name for item in dataclasses.fields(shape) if item.init]


def validate(draft: Draft, steps: Steps, shape: type[Shape], values: dict[str, Any], what: str) -> Shape | None:
    """The values as a `shape`; None after noting every unknown key, wrong type and value out of range."""
    allowed = _list_fields(shape)
    unknown = [key for key in values if key not in allowed]
    for key in unknown:
        if key == "<<":
            draft.refuse(
                (*steps, key), "merge keys (`<<`) are not read: write the settings out, or name a whole alias."
            )
            continue
        refusal = name_choices(key, allowed, what) if allowed else f"{what} {shorten(key)!r}: there are no settings."
        draft.refuse((*steps, key), refusal)
    known = {key: value for key, value in values.items() if key in allowed}
    try:
        # As JSON, strictness lets a list be a tuple and still refuses "4" for 4.
        result = adapter_of(shape).validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        _refuse_errors(draft, steps, known, error)
        return None
    except FewtuneError as error:
        draft.refuse(steps, str(error))
        return None
    return None if unknown else result


def _refuse_errors(draft: Draft, steps: Steps, values: Any, error: ValidationError) -> None:
    """Note pydantic's errors, one fault a place: the branches of a union fail together."""
    by_place: dict[Steps, list[ErrorDetails]] = {}
    for details in error.errors():
        place: Steps = ()
        holder = values
        for step in details["loc"]:
            here = isinstance(step, str) and isinstance(holder, dict) and step in holder
            if here or (isinstance(step, int) and isinstance(holder, list) and step < len(holder)):
                holder = holder[step]
                place = (*place, step)
            elif details["type"] in ("missing", "extra_forbidden") and step == details["loc"][-1]:
                place = (*place, step)
        by_place.setdefault(place, []).append(details)
    holding = {place[:length] for place in by_place for length in range(len(place))}
    for place, several in by_place.items():
        if place in holding and several[0]["type"] == "too_short":
            continue  # pydantic counts the sound items alone: [0] is refused for its item, not for its length
        draft.refuse((*steps, *place), _format_errors((*steps, *place), several))


def _format_errors(steps: Steps, several: Sequence[ErrorDetails]) -> str:
    where = f"`{join_steps(steps)}`" if steps else "the study"
    first = several[0]
    if first["type"] == "missing":
        return f"{where} is missing."
    if first["type"] == "literal_error" and len(several) == 1 and isinstance(first["input"], str):
        return name_choices(first["input"], re.findall(r"'([^']*)'", first["ctx"]["expected"]), f"{where} value")
    if first["type"] == "value_error":
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    subject = re.compile(r"^(Input|Value|List|Tuple|String|Object)\b")
    messages = [re.sub(r" after validation, not (0|more than \d+|\d+)$", "", details["msg"]) for details in several]
    wants = [subject.sub("it", message) for message in messages]
    shown = show_value(to_jsonable_python(first["input"], fallback=str))
    return f"{where} is {shown}: {', or '.join(dict.fromkeys(wants))}."
