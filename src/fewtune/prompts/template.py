"""Templates: the text around an example's texts.

Owns rendering. Which text fields a pattern must name is `tasks.patterns`.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence


def plain_template(fields: Sequence[str], between: str = "\n") -> str:
    """The texts themselves, one a line or with what else stands `between` two, for methods that use no cloze text."""
    return between.join("{" + name + "}" for name in fields)


def list_fields(template: str) -> list[str]:
    """The texts that a template names, in order; raises ValueError where its braces do not pair."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def render(template: str, fields: Mapping[str, str]) -> str:
    """Put an example's texts into a template; braces inside the texts are left as they are."""
    parts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            parts.append(fields[name])
    return "".join(parts)
