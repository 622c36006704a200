"""Allowed host names and origins of a server: the headers Host and Origin.

Owns how both are read, and which names are this machine's alone. Any site can have a name of its own point at 127.0.0.1
(DNS rebinding): a browser then takes the site and this server for one, and these headers alone tell. What sends no Host
is no browser. Sources: https://www.rfc-editor.org/rfc/rfc9110#section-7.2, https://www.rfc-editor.org/rfc/rfc6454
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers

from fewtune.errors import FewtuneError, list_names, shorten
from fewtune.serving.refusals import RefusedError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine as a message lists them."""
_NAME = r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)"
_HOST = re.compile(rf"{_NAME}(?::\d*)?")
_ORIGIN = re.compile(rf"https?://{_NAME}(?::\d*)?")


def is_loopback(host: str) -> bool:
    """Whether an address is one that this machine alone can reach; IPv6 with or without brackets."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_name(name: str) -> None:
    """Raise FewtuneError where a name that `--allow-host` gives is none that Host can say."""
    if not re.fullmatch(_NAME, name.lower()):
        raise FewtuneError(
            f"--allow-host is {shorten(name)!r}: give a host's name or address alone, without http:// and port, such "
            "as model.example, or [fd00::1] for IPv6."
        )


def check_hosts(headers: Headers, names: Collection[str]) -> None:
    """Raise RefusedError where Host or Origin says another name than this machine's and `names`, in small letters."""
    every = list_names([*LOOPBACK, *sorted(names)])
    host, origin = headers.get("host"), headers.get("origin")
    if host is not None and not _allows(found := _HOST.fullmatch(host.lower()), names):
        message = (
            f"the header Host is {shorten(host)!r}, and this server is asked as {every} alone. {_format_way(found)}"
        )
        raise RefusedError(403, "host", message)
    if origin is not None and not _allows(found := _ORIGIN.fullmatch(origin.lower()), names):
        message = f"the header Origin is {shorten(origin)!r}, and pages of {every} alone may ask. {_format_way(found)}"
        raise RefusedError(403, "origin", message)


def _allows(found: re.Match[str] | None, names: Collection[str]) -> bool:
    return found is not None and (is_loopback(found.group(1)) or found.group(1) in names)


def _format_way(found: re.Match[str] | None) -> str:
    if found is None:
        return "Use one of these."
    return f"Use one of these, or start the server with --allow-host {shorten(found.group(1))}."
