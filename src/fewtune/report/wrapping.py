"""Breaks a chart's texts into lines, as SVG does not.

Owns the places. Does not know how wide a letter is.
"""

from __future__ import annotations

import re

from rich.cells import cell_len, chop_cells

from fewtune.system.terminal import make_safe

_PIECES = re.compile(r"[^_/.:\-]*[_/.:\-]+|[^_/.:\-]+")


def wrap_text(text: str, columns: int) -> str:
    """A text in lines of so many columns at most: broken at spaces, in longer words behind a sign, else anywhere."""
    lines: list[str] = []
    for word in make_safe(text).split(" "):
        first, *rest = _break_word(word, columns)
        if lines and cell_len(f"{lines[-1]} {first}") <= columns:
            lines[-1] += f" {first}"
        else:
            lines.append(first)
        lines += rest
    return "\n".join(lines)


def _break_word(word: str, columns: int) -> list[str]:
    if cell_len(word) <= columns:
        return [word]
    lines = [""]
    for piece in _PIECES.findall(word):
        for part in chop_cells(piece, columns):
            if cell_len(lines[-1] + part) <= columns:
                lines[-1] += part
            else:
                lines.append(part)
    return lines
