"""Under which names a server may be asked, and whose pages may ask it: no site of another's that points here."""

from __future__ import annotations

import socket

import httpx
import pytest

from fewtune.errors import FewtuneError
from fewtune.predictors.predictor import Predictor
from fewtune.serving.server import Address
from serving_models import listen

OWN = ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "127.8.9.10:8000", "[::1]", "[::1]:8000"]
OTHERS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example:80@localhost",
    "0.0.0.0:8000",
    "192.168.0.7",
    "[fd00::1]:8000",
    "2130706433",
    "[localhost",
    "",
]


def ask(client: httpx.Client, url: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"{url}/predict", json={"inputs": "wet"}, headers=named)


@pytest.mark.parametrize("name", OWN)
def test_this_machines_own_names_may_ask(client: httpx.Client, url: str, name: str) -> None:
    assert ask(client, url, Host=name).status_code == 200
    assert ask(client, url, Host=name, Origin=f"http://{name}").status_code == 200
    assert ask(client, url, Origin=f"https://{name}").status_code == 200


@pytest.mark.parametrize("name", OTHERS)
def test_a_site_whose_name_points_here_is_refused(client: httpx.Client, url: str, name: str) -> None:
    for path in ("", "predict", "health", "openapi.json"):
        found = client.get(f"{url}/{path}", headers={"Host": name})
        assert found.status_code == 403, path
    assert found.json()["error_type"] == "host"
    told = found.json()["error"]
    assert told.startswith(
        f"the header Host is {name!r}, and this server is asked as localhost, 127.0.0.1, [::1] alone."
    )


@pytest.mark.parametrize("origin", ["http://evil.example", "https://evil.example:8000", "null", "file://", "localhost"])
def test_another_sites_page_is_refused(client: httpx.Client, url: str, origin: str) -> None:
    found = ask(client, url, Origin=origin)
    assert found.status_code == 403 and found.json()["error_type"] == "origin"
    assert f"the header Origin is {origin!r}, and pages of localhost, 127.0.0.1, [::1] alone" in found.json()["error"]


def test_the_refusal_says_which_option_allows_the_name_where_one_can(client: httpx.Client, url: str) -> None:
    assert ask(client, url, Host="model.example:80").json()["error"].endswith("--allow-host model.example.")
    assert ask(client, url, Host="a b").json()["error"].endswith("Use one of these.")


def test_a_name_that_is_allowed_may_ask_beside_the_own_ones(client: httpx.Client, one_column: Predictor) -> None:
    with listen(one_column, names=("Model.Example", "[fd00::1]")) as url:
        for host in ("model.example", "MODEL.EXAMPLE:8000", "[FD00::1]:80", "localhost"):
            assert ask(client, url, Host=host, Origin=f"https://{host}").status_code == 200, host
        told = ask(client, url, Host="other.example")
        assert told.status_code == 403
        assert "is asked as localhost, 127.0.0.1, [::1], [fd00::1], model.example alone" in told.json()["error"]


def test_with_a_token_any_name_may_ask_unless_some_are_allowed(client: httpx.Client, one_column: Predictor) -> None:
    given = {"Authorization": "Bearer s3cret-token", "Origin": "https://any.example"}
    with listen(one_column, token="s3cret-token") as url:
        assert ask(client, url, Host="any.example", **given).status_code == 200
        assert ask(client, url, Host="any.example").status_code == 401
    with listen(one_column, token="s3cret-token", names=("model.example",)) as url:
        assert ask(client, url, Host="any.example", **given).status_code == 403
        assert ask(client, url, Host="model.example", Authorization=given["Authorization"]).status_code == 200


def test_what_names_no_host_is_no_browser_and_may_ask(url: str) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as probe:
        probe.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert probe.recv(1024).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", ["http://model.example", "model.example:80", "", "a b", "*", "fd00::1"])
def test_what_no_host_can_say_is_refused_as_an_option(name: str) -> None:
    with pytest.raises(FewtuneError, match=r"--allow-host is .*give a host's name or address alone"):
        Address(names=(name,)).check()
