"""HTML pages of a server: one to try the model by hand, one that documents it. Neither needs a network.

Owns what they show; `page.html.jinja`, `docs.html.jinja`, `page.css` and `page.js` beside this file own their looks and
acts. Whatever a user named is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fewtune.system.terminal import make_safe

_FOLDER = files("fewtune.serving")
_SCRIPT = (_FOLDER / "page.js").read_text(encoding="utf-8")
_STYLE = (_FOLDER / "page.css").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


PAGE_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; connect-src 'self'; "
        "img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
"""What a browser lets the pages do: their own style and script, and requests to this server alone."""


def write_form_page(name: str, labels: Sequence[str], fields: Sequence[str], least: float) -> str:
    """The page to try a model by hand; answers of a probability under `least` are told as abstained from."""
    # A field's name goes back to the server as it is, escaped for HTML alone; what is shown of it is made safe.
    names = [(field, Markup.escape(field)) for field in fields]
    return _render("page.html.jinja", name=name, labels=labels, fields=names, least=least, script=Markup(_SCRIPT))


def write_documentation(described: Mapping[str, Any]) -> str:
    """The page that says what each path takes and answers, from the OpenAPI description."""
    operations = [
        {
            "path": path,
            "verb": verb.upper(),
            "summary": operation["summary"],
            "example": _find_example(operation),
            "answers": {status: answer["description"] for status, answer in operation["responses"].items()},
        }
        for path, verbs in described["paths"].items()
        for verb, operation in verbs.items()
    ]
    return _render("docs.html.jinja", title=described["info"]["title"], operations=operations)


def _find_example(operation: Mapping[str, Any]) -> str | None:
    if "requestBody" not in operation:
        return None
    return json.dumps(operation["requestBody"]["content"]["application/json"]["example"], ensure_ascii=False)


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("fewtune.serving", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: make_safe(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(style=Markup(_STYLE), **values)
