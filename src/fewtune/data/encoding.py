"""Detects a text file's encoding and decodes its lines lazily.

Owns the byte order marks that are understood (UTF-8 and UTF-16; without one a file is UTF-8) and the refusal of other
bytes, with the way out. Guesses no encoding: the same bytes are other letters in each of the old ones.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from fewtune.errors import DataError, shorten

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
SAVE_AS_UTF8 = "In Excel choose the file type 'CSV UTF-8 (Comma delimited)', in LibreOffice the character set UTF-8."


def decode_lines(stream: io.BufferedReader, place: str, newline: str) -> Iterator[str]:
    """The lines of a stream with their endings, held one at a time; `newline` as `open` takes it.

    Raises DataError naming `place` and the line whose bytes are no text.
    """
    text = io.TextIOWrapper(stream, encoding=_find_encoding(stream.peek(4)), newline=newline)
    number = 0
    try:
        for number, line in enumerate(text, start=1):  # noqa: B007 - it is told where the next one fails
            yield line
    except UnicodeDecodeError as error:
        raise _refuse(error, place, number) from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror or error}). Check the path.") from error
    finally:
        if not stream.closed:
            text.detach()  # else the wrapper would close it: that is for whoever opened it


def decode_text(content: bytes, place: str) -> str:
    """A whole file's text; raises DataError naming `place` and the line whose bytes are no text."""
    try:
        return content.decode(_find_encoding(content[:4]))
    except UnicodeDecodeError as error:
        raise _refuse(error, place, 0) from error


def _find_encoding(begins: bytes) -> str:
    return next((encoding for mark, encoding in _MARKS if begins.startswith(mark)), "utf-8")


def _refuse(error: UnicodeDecodeError, place: str, lines_before: int) -> DataError:
    content = error.object
    line = lines_before + content.count(b"\n", 0, error.start) + 1
    if not error.encoding.startswith("utf-8"):
        return DataError(f"{place}: line {line} is not UTF-16, as the file's first bytes say. Save the file as UTF-8.")
    first, last = content.rfind(b"\n", 0, error.start) + 1, content.find(b"\n", error.start)
    shown = content[first : last if last >= 0 else len(content)][-200:].decode("cp1252", "replace").strip()
    said = ""
    if shown.isprintable():
        said = f" In Windows-1252 (Latin-1) that line reads {shorten(shown)!r}."
    return DataError(
        f"{place}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}). Save the file as UTF-8.{said} "
        f"{SAVE_AS_UTF8}"
    )
