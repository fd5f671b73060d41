"""The report in a real browser: it runs, the slider tells the truth, nothing is fetched, everybody can read it."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from chromium import Chromium, find_chromium

from convpredict.evaluation.report.render import write_report
from report_inputs import HOSTILE, full_inputs

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no Chromium here: install one, or name it in CONVPREDICT_CHROMIUM, to test the report",
)
QUARTER_WEEKS = 365.25 / 4 / 7


@pytest.fixture(scope="module")
def inputs():
    return full_inputs()


@pytest.fixture(scope="module")
def path(inputs, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report") / "report.html", inputs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, path):
    browser.resize(1280)
    browser.emulate()
    browser.open(path)
    return browser


def lists_by_hand(frame, score, calls):
    """Conversions and expected conversions per quarter of weekly lists, replayed lead by lead."""
    by_week = defaultdict(list)
    for row in frame.to_dict("records"):
        by_week[row["cutoff"]].append(row)
    found, harvest, expected, last = set(), set(), 0.0, {}
    weeks = sorted(by_week)
    burn_in = min(math.ceil(30 / 7), len(weeks) // 3)
    for number, cutoff in enumerate(weeks):
        for row in sorted(by_week[cutoff], key=lambda row: -row[score])[:calls]:
            lead, p = row["lead_id"], row["p"]
            if row["label"]:
                (harvest if number < burn_in else found).add(lead)
            since = (cutoff - last[lead]).days if lead in last else math.inf
            if number >= burn_in:
                expected += (1 - p) ** max(0.0, 1 - since / 30) - (1 - p)
            last[lead] = cutoff
    found -= harvest
    scale = QUARTER_WEEKS / (len(weeks) - burn_in)
    return len(found) * scale, expected * scale


def shown(page):
    ids = (
        "model-found",
        "scorecard-found",
        "gain-found",
        "model-expected",
        "model-precision",
        "model-revenue",
    )
    texts = page.value(
        f"Object.fromEntries({list(ids)}.map(id => [id, document.getElementById(id).textContent]))"
    )
    return {name: text.replace("\u202f", "").replace("\u2212", "-") for name, text in texts.items()}


def as_shown(value):
    return f"{value:.1f}" if abs(value) < 9.95 else f"{math.floor(value + 0.5):,}"


def test_runs_without_complaint_and_asks_for_nothing(page, path):
    assert page.complaints() == []
    assert [url for url in page.requests() if url != path.as_uri()] in ([], ["data:,"])
    assert (
        page.value("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )


def test_the_policy_holds(page):
    blocked = page.value(
        "new Promise(done => {"
        " document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));"
        " new Image().src = 'http://127.0.0.1:9/pixel.png'; })"
    )
    assert blocked == "img-src"
    inline = page.value(
        "new Promise(done => {"
        " document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));"
        " const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s); })"
    )
    assert inline == "script-src-elem"
    assert page.value("window.hacked === undefined")


@pytest.mark.parametrize("steps", [0, -25, 12])
def test_the_slider_shows_what_a_plain_replay_finds(page, inputs, steps):
    page.value("document.getElementById('capacity-slider').focus()")
    page.press("ArrowRight" if steps > 0 else "ArrowLeft", abs(steps))
    calls = int(page.value("document.getElementById('capacity-calls').textContent").split()[0])
    assert (calls == 20) == (steps == 0)
    model, expected = lists_by_hand(inputs.predictions, "p", calls)
    card, _ = lists_by_hand(inputs.predictions, "scorecard_points", calls)
    seen = shown(page)
    digits = 1 if max(model, card) < 9.95 else 0
    model_found, card_found = (math.floor(10**digits * each + 0.5) / 10**digits for each in (model, card))
    gain = f"{model_found - card_found:+,.{digits}f}"
    assert seen["model-found"] == f"{model_found:,.{digits}f}"
    assert seen["scorecard-found"] == f"{card_found:,.{digits}f}"
    assert seen["gain-found"] == (gain if float(gain) else gain.lstrip("+-"))
    assert seen["model-expected"] == as_shown(expected)
    precision = 100 * model / (calls * QUARTER_WEEKS)
    assert seen["model-precision"] == f"{precision:.{1 if precision < 9.95 else 0}f}%"
    assert seen["model-revenue"] == f"{250 * expected:,.0f}EUR"
    assert page.value("document.getElementById('capacity-slider').getAttribute('aria-valuetext')").startswith(
        f"{calls} calls a week, "
    )


def test_the_marker_follows_the_slider(page):
    place = "document.getElementById('capacity-marker').getBoundingClientRect().left"
    middle = page.value(place)
    page.value("document.getElementById('capacity-slider').focus()")
    page.press("Home")
    left = page.value(place)
    page.press("End")
    assert left < middle < page.value(place)


def test_values_are_read_with_the_arrow_keys(page):
    tip = "document.querySelector('.plot .tip').textContent"
    page.value("document.querySelector('.plot').focus()")
    page.press("ArrowRight")
    first = page.value(tip)
    page.press("ArrowRight")
    assert first.startswith("predicted ")
    assert page.value(tip) != first
    assert page.value("document.querySelector('.plot .tip').classList.contains('shown')")
    page.press("Escape")
    assert not page.value("document.querySelector('.plot .tip').classList.contains('shown')")


def test_segments_are_chosen_one_at_a_time(page):
    visible = (
        "[...document.querySelectorAll('.group')].filter(g => g.offsetHeight)"
        ".map(g => g.querySelector('h3').textContent)"
    )
    assert page.value(visible) == ["Month of the cutoff"]
    page.value(
        "(s => { s.value = '1'; s.dispatchEvent(new Event('change')); })(document.getElementById('segment-chooser'))"
    )
    assert page.value(visible) == ["source"]
    assert HOSTILE in page.value("document.querySelectorAll('.group')[1].textContent")


def test_paper_shows_everything(page):
    page.emulate(media="print")
    page.value("window.dispatchEvent(new Event('beforeprint'))")
    assert page.value("[...document.querySelectorAll('.group')].every(g => g.offsetHeight)")
    assert page.value("[...document.querySelectorAll('details')].every(d => d.open)")
    assert page.value("[...document.querySelectorAll('details table')].every(t => t.offsetHeight)")
    assert page.value("!document.getElementById('capacity-slider').offsetHeight")
    page.value("window.dispatchEvent(new Event('afterprint'))")
    assert page.value("[...document.querySelectorAll('details')].some(d => d.open)") is False


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_fits_the_screen(page, width):
    page.resize(width)
    assert page.value("document.documentElement.scrollWidth") <= width
    outside = page.value(
        "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, .wide-chart, .tip')"
        f" && e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


A4_WITHOUT_MARGINS = 688


@pytest.mark.parametrize(("width", "media"), [(1280, ""), (1200, ""), (A4_WITHOUT_MARGINS, "print")])
def test_no_table_is_cut_on_a_wide_screen_or_paper(page, width, media):
    page.resize(width)
    page.emulate(media=media)
    page.value(
        "document.querySelectorAll('details, .group').forEach(e => { e.open = true; e.hidden = false; })"
    )
    cut = page.value(
        "[...document.querySelectorAll('.scroll')].filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.textContent.trim().slice(0, 40) + ' ' + e.scrollWidth + ' > ' + e.clientWidth)"
    )
    assert cut == []


def test_the_marker_stays_in_view_on_a_phone(page):
    page.resize(390)
    page.value("document.getElementById('capacity-slider').focus()")
    for key in ("End", "Home"):
        page.press(key)
        assert (
            0 <= page.value("document.getElementById('capacity-marker').getBoundingClientRect().left") <= 390
        )


@pytest.mark.parametrize("width", [390, 1280])
def test_labels_of_charts_do_not_overlap(page, width):
    page.resize(width)
    overlaps = page.value(
        """[...document.querySelectorAll('svg.chart')].flatMap(svg => {
          const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
          return texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([b, q]) =>
            p.left < q.right - 1 && q.left < p.right - 1 && p.top + 3 < q.bottom - 3 && q.top + 3 < p.bottom - 3)
            .map(([b]) => svg.getAttribute('aria-label').slice(0, 20) + ': ' + a + ' | ' + b));
        })"""
    )
    assert overlaps == []


CONTRAST = """(() => {
  const numbers = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const over = (top, below) => { const a = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map(k => a * top[k] + (1 - a) * below[k]); };
  const ground = e => { const own = numbers(getComputedStyle(e).backgroundColor);
    if ((own.length > 3 ? own[3] : 1) === 1) return own;
    return over(own, e.parentElement ? ground(e.parentElement) : [255, 255, 255]); };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!text || !e.getClientRects().length || e.closest('script, style, option, .visually-hidden')) continue;
    const style = getComputedStyle(e), below = ground(e);
    const ink = over(numbers(e instanceof SVGElement ? style.fill : style.color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push(e.className + ' ' + e.textContent.slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return bad;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page, scheme):
    page.emulate(scheme=scheme)
    dark = page.value("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 26)"
    assert dark == (scheme == "dark")
    assert page.value(CONTRAST) == []


def test_everything_that_acts_has_a_name(page):
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"slider", "combobox", "link", "image", "region", "navigation"}
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored")
        and node["role"]["value"] in roles
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    assert page.value(
        "[...document.querySelectorAll('.plot')].every(p => p.getAttribute('aria-label').length > 30)"
    )
