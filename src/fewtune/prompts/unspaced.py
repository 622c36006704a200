"""Recognises scripts without spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.

Owns which signs these are. There a run of letters is a clause, so that what counts or draws words takes single signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SIGNS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""As ranges of a regular expression's set."""
_UNSPACED = re.compile(f"[{SIGNS}]")


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether most letters and signs of some texts are of such a script."""
    whole = "".join("".join(text.split()) for text in texts)
    return 2 * len(_UNSPACED.findall(whole)) > len(whole)
