"""The pages in a real browser: a model tried by hand, on a phone and in the dark, with no network but the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import fewtune
from browsers import HOSTILE, NEEDED, open_browser
from fewtune.predictors.predictor import Predictor
from serving_models import listen

pytestmark = NEEDED


@pytest.fixture(scope="module")
def hostile() -> Predictor:
    """A model whose labels and columns are markup, one label as long as a line."""
    rows = [{HOSTILE: text, '"><b>': text} for text in ("early and whole", "crushed and wet")]
    return fewtune.fit(rows, [HOSTILE, "late " * 30], "tfidf")


@pytest.fixture(scope="module")
def hostile_url(hostile: Predictor) -> Iterator[str]:
    with listen(hostile, token="s3cret-token") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as started:
        yield started


@contextmanager
def opened(browser: Any, url: str, path: str = "", refusals: int = 0, **options: Any) -> Iterator[Any]:
    """A page of a server opened with its token as a password; it tells of refused requests alone, asks nobody else."""
    context = browser.new_context(http_credentials={"username": "me", "password": "s3cret-token"}, **options)
    page = context.new_page()
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/{path}")
    yield page
    assert len(told) == refusals and all("status of 422" in each for each in told)
    assert all(each.startswith((url, "data:")) for each in asked)
    context.close()


def test_a_model_is_tried_by_hand(browser: Any, hostile_url: str, hostile: Predictor) -> None:
    with opened(browser, hostile_url) as page:
        areas = page.locator("textarea")
        assert [each.strip() for each in page.locator("form label").all_inner_texts()] == list(hostile.fields)
        for index in range(2):
            areas.nth(index).fill("crushed and wet")
        page.keyboard.press("Control+Enter")
        rows = page.locator("#answers li")
        rows.first.wait_for(timeout=10_000)
        row = dict.fromkeys(hostile.fields, "crushed and wet")
        (expected,) = hostile.predict_probabilities([row])
        assert rows.count() == 2
        assert rows.first.locator(".label").inner_text().strip() == hostile.predict([row])[0].strip()
        assert rows.first.locator(".score").inner_text() == f"{100 * expected.max():.1f}%"
        widths = [rows.nth(i).locator(".bar").bounding_box()["width"] for i in range(2)]
        assert widths[1] / widths[0] == pytest.approx(expected.min() / expected.max(), rel=0.05)


def test_a_model_that_needs_no_token_is_tried_under_each_name_of_this_machine(browser: Any, url: str) -> None:
    for name in ("127.0.0.1", "localhost"):
        with opened(browser, url.replace("127.0.0.1", name)) as page:
            page.locator("textarea").fill("crushed and wet")
            page.get_by_role("button", name="Predict").click()
            page.locator("#answers li").first.wait_for(timeout=10_000)
            assert page.locator("#answers .label").first.inner_text() == "complaint"


def test_a_refusal_is_shown_in_words(browser: Any, hostile_url: str) -> None:
    with opened(browser, hostile_url, refusals=1) as page:
        for index in range(2):
            page.locator("textarea").nth(index).fill("   ")
        page.get_by_role("button", name="Predict").click()
        told = page.locator("#told.bad")
        told.wait_for(timeout=10_000)
        assert "is empty: give a text." in told.inner_text()


@pytest.mark.parametrize("path", ["", "docs"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1200, "dark")])
def test_nothing_is_wider_than_the_screen(browser: Any, hostile_url: str, path: str, width: int, scheme: str) -> None:
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with opened(browser, hostile_url, path, **options) as page:
        if not path:
            for index in range(2):
                page.locator("textarea").nth(index).fill("wet")
            page.get_by_role("button", name="Predict").click()
            page.locator("#answers li").first.wait_for(timeout=10_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground))) < 80) == (scheme == "dark")


def test_the_api_is_described_without_a_network(browser: Any, hostile_url: str) -> None:
    with opened(browser, hostile_url, "docs") as page:
        assert page.locator("h2").all_inner_texts() == [
            "POST /predict", "POST /classify", "GET /health", "GET /metrics"
        ]  # fmt: skip
        assert HOSTILE in page.locator("pre").first.inner_text()
