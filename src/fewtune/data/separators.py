"""Detects the delimiter of a CSV file from its header and, if that is ambiguous, its first row.

Owns the signs that are known and the refusal where more than one is sensible. Reads no more than two lines of cells.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence

from fewtune.errors import DataError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
"""Signs that `.csv` files are written with, by what they are called."""


def find_separator(header: str, first_row: str, place: str) -> str:
    """The separator of a file that opens with these lines; raises DataError where several are sensible.

    It is the one that splits the header; where several do, the one that splits the first row into as many cells; a
    comma where none does, for the header then names one column.
    """
    splitting = {sign: cells for sign in SEPARATORS if len(cells := _split(header, sign)) > 1}
    if len(splitting) < 2:
        return next(iter(splitting), ",")
    fitting = [sign for sign, cells in splitting.items() if len(_split(first_row, sign)) == len(cells)]
    if len(fitting) == 1:
        return fitting[0]
    names = " and by ".join(SEPARATORS[sign] for sign in fitting or splitting)
    raise DataError(
        f"{place}: its cells could be separated by {names}, for the header can be split by either. Put double quotes "
        "around a column's name that holds such a sign, or save the file with commas."
    )


def _split(line: str, sign: str) -> Sequence[str]:
    try:
        return next(csv.reader([line], delimiter=sign, strict=True, skipinitialspace=sign != "\t"), ())
    except csv.Error:  # quotes that do not suit this sign, or a cell that goes on in the next line
        return ()
