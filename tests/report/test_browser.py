"""The report page in a real browser: it draws, narrows, tells what a mark is, asks the network for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers import HOSTILE, NEEDED, open_browser
from fewtune.analysis.study import analyse_folder
from fewtune.records import load_records, write_record
from fewtune.report.page import write_report_page
from study_maker import make_study

pytestmark = NEEDED


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two tasks and two numbers of shots, with a name that is markup."""
    out = tmp_path_factory.mktemp("study")
    low = [0.5, 0.5, 0.5]
    draws = {"pattern": [0.84, 0.86, 0.82], f"lora-{HOSTILE}": [0.6, 0.7, 0.65], "probe": low, "majority": low}
    for task in ("sentiment", "cola"):
        for shots in (16, 32):
            make_study(
                out,
                draws,
                task=task,
                shots=shots,
                labels=(HOSTILE, "b"),
                out_of_domain={"yelp": -0.1},
                heuristics=("subsequence",),
            )
    return write_report_page(analyse_folder(out), out)


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report opened, with everything it says or asks for written down."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.told, opened.asked = [], []
    opened.on("console", lambda message: opened.told.append(message.text))
    opened.on("pageerror", lambda error: opened.told.append(str(error)))
    opened.on("dialog", lambda dialog: (opened.told.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    assert opened.told == []
    assert opened.asked == [report.as_uri()]
    opened.close()


def test_every_chart_is_drawn_and_names_are_text(page: Any) -> None:
    charts = page.locator("svg.chart.wide")
    assert charts.count() == 4 * (1 + 5) + 2 == page.locator("svg.chart.narrow").count()
    for index in range(charts.count()):
        shown = charts.nth(index)
        if shown.is_visible():
            box = shown.bounding_box()
            assert box["width"] > 200 and box["height"] > 100
    assert page.locator("svg.chart path[data-tip]").count() > 50
    assert HOSTILE in page.locator("main").inner_text()


def test_filters_narrow_the_page_and_widen_it_again(page: Any) -> None:
    assert page.locator("#verdict .verdict:visible").count() == 4
    page.select_option("select[name=task]", label="cola")
    page.select_option("select[name=shots]", label="32")
    assert page.locator("#verdict .verdict:visible").all_inner_texts()[0].startswith("cola · tiny-model · 32 shots")
    assert page.locator("#verdict .verdict:visible").count() == 1
    assert page.locator("#leaderboard table.sticky:visible").first.inner_text().count("pattern") == 1
    assert page.locator("#filtered").inner_text() == "1 of 4 comparisons shown"
    assert page.locator("select[name=model]").count() == 0  # the study has one model
    for axis in ("task", "shots"):
        page.select_option(f"select[name={axis}]", label="all")
    assert page.locator("#verdict .verdict:visible").count() == 4
    assert page.locator("#filtered").inner_text() == ""


def test_filters_leave_the_findings_about_what_is_shown(page: Any) -> None:
    findings = page.locator(".finding:visible")
    everywhere = findings.count()
    assert everywhere > 1
    page.select_option("select[name=task]", label="cola")
    page.select_option("select[name=shots]", label="32")
    heads = page.locator(".finding:visible h3").all_inner_texts()
    assert 0 < len(heads) < everywhere
    assert all("sentiment" not in head and "16 shots" not in head for head in heads)
    assert page.locator("#audit .found").inner_text() == f"{len(heads)} of {everywhere} shown."
    for axis in ("task", "shots"):
        page.select_option(f"select[name={axis}]", label="all")
    assert findings.count() == everywhere
    assert page.locator("#audit .found").inner_text() == ""


def test_a_mark_says_what_it_is_when_pointed_at(page: Any) -> None:
    dot = page.locator("svg.chart path[data-tip*='data seed 1']").first
    dot.scroll_into_view_if_needed()
    page.wait_for_timeout(200)  # scrolling hides what was shown: it has to be over
    dot.hover(force=True)
    page.locator("#tip").wait_for(state="visible", timeout=5000)
    assert page.locator("#tip").inner_text() == dot.get_attribute("data-tip")


def test_filters_and_folded_parts_are_reached_by_keyboard(page: Any) -> None:
    page.locator("select[name=task]").focus()
    page.keyboard.type("cola")
    assert page.locator("select[name=task]").input_value() == "=cola"
    page.locator("#methods summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#methods details").first.get_attribute("open") is not None


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1200, "dark")])
def test_nothing_is_wider_than_the_screen(browser: Any, report: Path, width: int, scheme: str) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened.goto(report.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    ink, ground = (opened.evaluate(f"getComputedStyle(document.body).{side}") for side in ("color", "backgroundColor"))
    assert ink != ground
    dots = opened.locator("svg.chart path[data-tip]:visible").first
    assert dots.evaluate("mark => getComputedStyle(mark).fill") != ground
    opened.close()


LONG = ("knn_prompting (smollm2-135m-instruct)", "x" * 60, "in_context, sixteen demonstrations, contextual")


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of methods, a model and a test set with long names."""
    out = tmp_path_factory.mktemp("long")
    draws = {name: [0.8 - 0.1 * place, 0.82 - 0.1 * place, 0.79] for place, name in enumerate(LONG)}
    for shots in (16, 32):
        make_study(
            out,
            draws,
            shots=shots,
            rows=60,
            model="organisation/a-model-of-some-length-7b-instruct",
            out_of_domain={"newspaper_comments_of_one_year": -0.1},
            heuristics=("subsequence",),
        )
    for record in load_records(out):  # memory of which an axis has long numbers
        cost = record.cost.model_copy(update={"peak_memory_bytes": 3_600 << 20})
        write_record(out, record.model_copy(update={"cost": cost}))
    return write_report_page(analyse_folder(out), out)


@pytest.mark.parametrize("width", [400, 1280])
def test_letters_of_charts_are_read_and_names_are_whole(browser: Any, long_names: Path, width: int) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(long_names.as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    small, cut, touching, scrolled = opened.evaluate(
        """() => {
            const charts = [...document.querySelectorAll('svg.chart')].filter(chart => chart.checkVisibility());
            const texts = charts.flatMap(chart => [...chart.querySelectorAll('text')].map(text => [chart, text]));
            const drawn = texts.map(([chart, text]) => [chart, text.textContent, text.getBoundingClientRect()]);
            const touch = (a, b) => Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > a.height / 2
                && Math.max(a.left, b.left) - Math.min(a.right, b.right) < 3;
            const inside = (part, frame) => part.left >= frame.left - 1 && part.right <= frame.right + 1;
            return [
                texts.map(([_, text]) => [text.getScreenCTM(), parseFloat(getComputedStyle(text).fontSize)])
                    .map(([drawn, size]) => size * Math.hypot(drawn.a, drawn.b)).filter(size => size < 11),
                texts.filter(([chart, text]) => text.textContent.includes('…')
                    || !inside(text.getBoundingClientRect(), chart.getBoundingClientRect()))
                    .map(([_, text]) => text.textContent),
                drawn.flatMap(([chart, text, box], place) => drawn.slice(place + 1)
                    .filter(([other, more, next]) => other === chart && text && more && touch(box, next))
                    .map(([_, more]) => [text, more])),
                charts.filter(chart => chart.parentElement.scrollWidth > chart.parentElement.clientWidth).length,
            ];
        }"""
    )
    assert small == [] and cut == [] and touching == [] and scrolled == 0
    hidden = opened.evaluate(
        """() => [...document.querySelectorAll('tbody th')].filter(name => name.checkVisibility()).filter(name => {
            const frame = name.closest('.scroll').getBoundingClientRect();
            const { left, right } = name.getBoundingClientRect();
            return left < frame.left || right > frame.right || name.scrollWidth > name.clientWidth;
        }).map(name => name.textContent)"""
    )
    assert hidden == []
    opened.close()


def test_without_scripts_the_page_is_whole(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(report.as_uri())
    assert opened.locator("#verdict .verdict").count() == 4
    assert opened.locator("#filters").is_hidden()
    assert opened.locator("svg.chart.wide").first.is_visible()
    context.close()


def test_printing_leaves_out_what_paper_cannot_use(browser: Any, report: Path) -> None:
    opened = browser.new_page()
    opened.goto(report.as_uri())
    opened.emulate_media(media="print")
    assert opened.locator("nav").is_hidden() and opened.locator("#filters").is_hidden()
    assert opened.locator("#verdict").is_visible()
    opened.close()


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with tables of many columns: two test sets out of domain, and six kinds of rows by two labels."""
    out = tmp_path_factory.mktemp("wide")
    kinds = ("lexical_overlap", "subsequence", "constituent", "passive", "conjunction", "embedded_clause")
    draws = {"context_distillation": [0.84, 0.86, 0.82], "majority": [0.5, 0.5, 0.5]}
    for shots in (16, 32):
        make_study(
            out,
            draws,
            shots=shots,
            labels=("acceptable", "unacceptable"),
            out_of_domain={"hans_regenerated": -0.1, "elsewhere": -0.2},
            heuristics=kinds,
        )
    return write_report_page(analyse_folder(out), out)


def test_nothing_is_wider_than_the_paper_and_what_was_folded_is_printed(browser: Any, wide_report: Path) -> None:
    paper = 210 - 2 * 12  # millimetres of A4 between the margins
    opened = browser.new_page(viewport={"width": round(paper / 25.4 * 96), "height": 1000})
    opened.goto(wide_report.as_uri())
    folded = opened.locator("details:not([open]) table").first
    shown = "part => part.checkVisibility({contentVisibilityAuto: true})"
    assert not folded.evaluate(shown)
    opened.emulate_media(media="print")
    assert folded.evaluate(shown)
    assert opened.evaluate("Math.max(...[...document.querySelectorAll('table')].map(t => t.rows[0].cells.length))") > 12
    wider = opened.evaluate(
        """() => [...document.querySelectorAll('table, svg.chart, figure')].filter(part => {
            if (!part.checkVisibility()) return false;  // charts of the other width
            const frame = part.closest('.card, figure').getBoundingClientRect();
            const { left, right } = part.getBoundingClientRect();
            return left < frame.left || right > frame.right || right > document.documentElement.clientWidth;
        }).map(part => part.outerHTML.slice(0, 300))"""
    )
    assert wider == []
    opened.emulate_media(media="screen")
    assert not folded.evaluate(shown)
    opened.close()
