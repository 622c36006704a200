"""Reads a request into rows, and rejects what cannot be used.

Owns the forms that rows may have and the words of what is wrong with them. Does not know how a body arrives or who
answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewtune.data.row_files import is_text
from fewtune.data.strict_json import RepeatedKeyError, parse_json
from fewtune.errors import list_names, name_choices, shorten
from fewtune.serving.limits import RequestLimits
from fewtune.serving.refusals import RefusedError


@dataclass(frozen=True)
class Given:
    """The rows of a request, texts by column; `single` where it asked about one row and not about a list."""

    rows: list[dict[str, str]]
    single: bool


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; raises RefusedError where it is none."""
    try:
        content = parse_json(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RefusedError(
            400, "encoding", f"the body is not UTF-8 (byte {error.start}): send JSON in UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise RefusedError(400, "json", f"the body is not JSON ({error.msg}, {place}).") from error
    except RepeatedKeyError as error:
        raise _refuse(f"the body: {error}. Give each key once.") from error
    except (ValueError, RecursionError) as error:
        message = "the body is not JSON that can be read: a number is too long, or it is nested too deep."
        raise RefusedError(400, "json", message) from error
    if not isinstance(content, dict):
        raise _refuse(f"the body is {_name_kind(content)}: give a JSON object.")
    return content


def read_request_rows(content: Mapping[str, Any], name: str, fields: Sequence[str], limits: RequestLimits) -> Given:
    """The rows under a name of a request; `fields` are the model's columns. Raises RefusedError naming row and column.

    A row is a text where the model reads one column, a list of as many texts as columns, or an object by column.
    """
    if name not in content:
        had = f"it has {list_names(content, 5)}" if content else "it is empty"
        raise _refuse(f"the body has no {name!r} ({had}). {_format_forms(name, fields)}")
    value = content[name]
    if isinstance(value, str | dict):
        return Given([_read_row(value, f"{name}", fields, limits)], single=True)
    if not isinstance(value, list):
        raise _refuse(f"{name} is {_name_kind(value)}. {_format_forms(name, fields)}")
    if not value:
        raise _refuse(f"{name} is an empty list. {_format_forms(name, fields)}")
    if len(fields) > 1 and all(isinstance(each, str) for each in value):
        return Given([_read_row(value, name, fields, limits)], single=True)
    if len(value) > limits.rows:
        raise _refuse(f"{name} has {len(value)} rows; a request may have {limits.rows}: split it.")
    rows = [_read_row(each, f"{name}: row {number}", fields, limits) for number, each in enumerate(value, start=1)]
    return Given(rows, single=False)


def refuse_option(content: Mapping[str, Any], name: str, allowed: bool) -> None:
    """Refuse an option that is no boolean or null, or asks for what this server has not."""
    value = content.get(name)
    if value is not None and not isinstance(value, bool):
        raise _refuse(f"{name} is {_name_kind(value)}: give true or false, or leave it out.")
    if value is not None and value is not allowed:
        said, other = json.dumps(value), json.dumps(allowed)
        raise _refuse(f"{name} is {said}: this server answers with probabilities alone. Give {other} or leave it out.")


def read_name(content: Mapping[str, Any], served: str) -> None:
    """Refuse a request for another model than the one that is served; it need not name one."""
    name = content.get("model")
    if name is not None and not isinstance(name, str):
        raise _refuse(f"model is {_name_kind(name)}: give {served!r}, or leave it out.")
    if name is not None and name != served:
        message = f"model {shorten(name)!r} is not served here: give {served!r}, or leave it out."
        raise RefusedError(404, "model", message)


def _read_row(value: Any, place: str, fields: Sequence[str], limits: RequestLimits) -> dict[str, str]:
    if isinstance(value, str):
        if len(fields) > 1:
            raise _refuse(f"{place} is one text, and this model reads {list_names(fields)}. {_format_row(fields)}")
        texts: Mapping[str, Any] = {fields[0]: value}
    elif isinstance(value, list):
        if len(value) != len(fields):
            raise _refuse(f"{place} is a list of {len(value)}; this model reads {len(fields)}. {_format_row(fields)}")
        texts = dict(zip(fields, value, strict=True))
    elif isinstance(value, dict):
        for name in value:
            if name not in fields:
                raise _refuse(f"{place}: {name_choices(name, fields, 'column')}")
        texts = value
    else:
        raise _refuse(f"{place} is {_name_kind(value)}. {_format_row(fields)}")
    return {name: _read_text(texts, name, place, limits) for name in fields}


def _read_text(texts: Mapping[str, Any], name: str, place: str, limits: RequestLimits) -> str:
    if name not in texts:
        raise _refuse(f"{place} has no column {name!r}; it has {list_names(texts) or 'none'}.")
    text = texts[name]
    if not isinstance(text, str):
        raise _refuse(f"{place}: column {name!r} is {_name_kind(text)}: give a text.")
    if not text.strip():
        raise _refuse(f"{place}: column {name!r} is empty: give a text.")
    if len(text) > limits.characters:
        raise _refuse(
            f"{place}: column {name!r} has {len(text)} characters; a text may have {limits.characters}: cut it."
        )
    if not is_text(text):
        raise _refuse(
            f"{place}: column {name!r} has half of a surrogate pair (\\ud800 to \\udfff), no character: send both."
        )
    return text


def _refuse(message: str) -> RefusedError:
    return RefusedError(422, "validation", message)


def _format_row(fields: Sequence[str]) -> str:
    if len(fields) == 1:
        return f'Give a text, or {{"{fields[0]}": "…"}}.'
    names, texts = ", ".join(f'"{name}": "…"' for name in fields), ", ".join(['"…"'] * len(fields))
    return f"Give {{{names}}} or [{texts}] in the order of {', '.join(fields)}."


def _format_forms(name: str, fields: Sequence[str]) -> str:
    return f"{name} is one row, or a list of rows. {_format_row(fields)}"


def _name_kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return kinds[type(value)]
