"""The page in headless Chromium: it opens cleanly, asks for nothing, its slider moves, its figures are the JSON's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_pages import make_view
from bench_results import make_results
from shown_figures import require_report

from vtopt.benchmarks.reports.command import report_command
from vtopt.benchmarks.run.results import OperationTimes, Shown, write_results

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is absent: pip install -e '.[dev]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is absent: apt-get install chromium chromium-driver"
)

NASTY = "<script>document.title='taken'</script>"
OPERATIONS = OperationTimes("fp32", "onnxruntime", 1, {"Conv": 12.0, "GridSample": 2 / 3})
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1200,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def results_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of made-up results of two models, one of them with a name that is a tag."""
    folder = tmp_path_factory.mktemp("results")
    shown = []
    for role in ("worst", "median"):
        view = make_view(role=role)
        view.picture.resize((240, 320)).save(folder / f"{role}.png")
        view.reference.resize((240, 320)).save(folder / f"{role}-reference.png")
        files = f"{role}.png", f"{role}-reference.png"
        shown.append(Shown(NASTY, "onnxruntime", role, view.pair, 38.0, *files))  # pyright: ignore[reportArgumentType]
    results = make_results(
        {"fp32": 20.0, NASTY: 10.0},
        shown=tuple(shown),
        op_times=(OPERATIONS,),
    )
    report_command([write_results(results, folder / "results.json")], format="html", output=folder / "report.html")
    report_command([folder / "results.json"], format="json", output=folder / "report.json")
    return folder / "report.html"


@pytest.fixture
def opened(browser: Any, results_page: Path) -> Any:
    """The browser, with the page of made-up results as one on a desk sees it."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(results_page.as_uri())
    return browser


def _require_clean(browser: Any, page: Path) -> None:
    """Assert that the console is empty and that nothing but the file and its own data was asked for."""
    assert browser.get_log("browser") == []
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert page.as_uri() in asked
    assert {url.partition(":")[0] for url in asked - {page.as_uri()}} <= {"data"}


def _find_sliders(browser: Any) -> list[Any]:
    return browser.find_elements("css selector", ".slider input")


def _read_clip(slider: Any) -> float:
    """Return where the upper picture begins, in percent of the width."""
    clip = slider.parent.execute_script(
        "return getComputedStyle(arguments[0].parentElement.querySelector('.after')).clipPath", slider
    )
    return float(clip.removeprefix("inset(").removesuffix(")").split()[3].removesuffix("%"))


def _measure_overhang(browser: Any) -> int:
    """Return by how much the page is wider than the screen, with everything unfolded."""
    return browser.execute_script(
        "document.querySelectorAll('details').forEach(each => each.open = true);"
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def test_the_page_opens_without_errors_or_requests(opened: Any, results_page: Path) -> None:
    assert opened.title == "results – vtopt report"
    assert opened.execute_script("return [...document.images].every(each => each.complete && each.naturalWidth)")
    assert NASTY in opened.find_element("css selector", ".choice").text
    _require_clean(opened, results_page)


def test_figures_are_those_of_the_json(opened: Any, results_page: Path) -> None:
    content = json.loads(results_page.with_suffix(".json").read_text())
    require_report(opened, content["rows"], [vars(OPERATIONS)])


def test_the_slider_moves_by_keys(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    first, second = _find_sliders(opened)
    assert _read_clip(first) == 50
    for keys, at in ((Keys.ARROW_RIGHT * 3, 53), (Keys.ARROW_LEFT, 52), (Keys.END, 100), (Keys.HOME, 0)):
        first.send_keys(keys)
        assert (_read_clip(first), _read_clip(second)) == (at, 50)
    first.send_keys(Keys.TAB)
    assert opened.switch_to.active_element == second


def test_the_slider_is_dragged(opened: Any) -> None:
    from selenium.webdriver import ActionChains

    slider, _ = _find_sliders(opened)
    quarter = slider.size["width"] // 4
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    for start, way, at in ((0, quarter, 75), (quarter, -2 * quarter, 25)):
        chain = ActionChains(opened).move_to_element_with_offset(slider, start, 0)
        chain.click_and_hold().move_by_offset(way, 0).release().perform()
        assert _read_clip(slider) == pytest.approx(at, abs=2)


def test_every_control_has_a_name_and_shows_its_focus(opened: Any) -> None:
    for slider in _find_sliders(opened):
        assert "How much of fp32 is shown" in slider.accessible_name
    slider, _ = _find_sliders(opened)
    slider.send_keys("")
    outline = "return getComputedStyle(arguments[0].parentElement).outlineStyle"
    assert opened.execute_script(outline, slider) == "solid"


def test_a_phone_does_not_scroll_sideways(opened: Any, results_page: Path) -> None:
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    opened.get(results_page.as_uri())
    assert opened.execute_script("return innerWidth") == PHONE["width"]
    assert _measure_overhang(opened) == 0
    region = "const region = document.querySelector('.scroll'); return region.scrollWidth > region.clientWidth"
    assert opened.execute_script(region)  # the table does, in its own place
    shown = "return [...document.querySelectorAll('#trade-off svg')].map(each => getComputedStyle(each).display)"
    assert opened.execute_script(shown) == ["none", "block"]


def test_the_first_column_stays_while_the_table_scrolls(opened: Any, results_page: Path) -> None:
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    opened.get(results_page.as_uri())
    left = opened.execute_script(
        "const region = document.querySelector('.scroll'); region.scrollLeft = 200;"
        "return region.querySelector('tbody th').getBoundingClientRect().left - region.getBoundingClientRect().left"
    )
    assert left == pytest.approx(0, abs=2)


def test_a_dark_scheme_has_dark_paper_and_light_ink(opened: Any) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        style = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        colours[scheme] = [sum(_read_rgb(each)) / 3 for each in opened.execute_script(style)]
    (paper, ink), (dark_paper, dark_ink) = colours["light"], colours["dark"]
    assert paper > 200 > 60 > dark_paper
    assert ink < 60 < 200 < dark_ink


def _read_rgb(colour: str) -> list[int]:
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_without_the_script_both_pictures_are_seen(opened: Any) -> None:
    opened.execute_script("document.documentElement.classList.remove('live')")
    first, second = (each.rect for each in opened.find_elements("css selector", ".slider img")[:2])
    assert second["y"] >= first["y"] + first["height"] or second["x"] >= first["x"] + first["width"]
    assert not _find_sliders(opened)[0].is_displayed()


@pytest.mark.slow
def test_a_run_of_cpu_int8_is_shown(browser: Any, small_checkpoint: Path, tmp_path: Path) -> None:
    """The whole way: run the shipped recipe on a small network, and open its report."""
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "vtopt.optimize.cli", "run", "cpu-int8", "--weights", str(small_checkpoint)]
    command += ["--output", str(folder), "--pair-count", "2", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    data = json.loads((folder / "report.json").read_text())
    for log in ("browser", "performance"):
        browser.get_log(log)
    page = folder / "report.html"
    browser.get(page.as_uri())
    _require_clean(browser, page)
    assert browser.title == "cpu-int8 – vtopt report"
    require_report(browser, data["rows"], data["op_times"])
    written = browser.find_element("css selector", "#provenance").get_attribute("textContent")
    stages = json.loads((folder / "run.json").read_text())["stages"].values()
    assert all(stage["sha256"] in written for stage in stages)  # each is an artifact or the parent of one
