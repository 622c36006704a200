"""Whatever the description of the API lets a client send, no answer is a server's error, and each is as described."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.mark.parametrize("valid", [True, False], ids=["as described", "not as described"])
@pytest.mark.parametrize("path", ["/predict", "/classify"])
@pytest.mark.parametrize("columns", [1, 2])
def test_no_request_is_a_servers_error(url: str, url_of_pairs: str, columns: int, path: str, valid: bool) -> None:
    schema = schemathesis.openapi.from_url(f"{url if columns == 1 else url_of_pairs}/openapi.json")
    operation = schema[path]["POST"]
    mode = schemathesis.GenerationMode.POSITIVE if valid else schemathesis.GenerationMode.NEGATIVE

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=list(CHECKS))

    ask()


def test_the_description_names_the_models_columns_and_limits(client: httpx.Client, url_of_pairs: str) -> None:
    described = client.get(f"{url_of_pairs}/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/classify", "/health", "/metrics"}
    body = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    pair, by_column, several = body["schema"]["properties"]["inputs"]["anyOf"]
    assert (pair["minItems"], pair["maxItems"], several["maxItems"]) == (2, 2, 256)
    assert by_column["required"] == ["premise", "hypothesis"]
    assert client.post(f"{url_of_pairs}/predict", json=body["example"]).status_code == 200
