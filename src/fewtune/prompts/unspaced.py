"""Scripts that put no spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.

Owns which signs these are. There a run of letters is a clause, so that what counts or draws words takes single signs.
"""

from __future__ import annotations

import re

SIGNS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""As ranges of a regular expression's set."""
_UNSPACED = re.compile(f"[{SIGNS}]")


def is_unspaced(text: str) -> bool:
    """Whether any sign of a text is of such a script."""
    return _UNSPACED.search(text) is not None
