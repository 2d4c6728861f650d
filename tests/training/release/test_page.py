"""The page of all weights: held to zoo.json, and used in a real browser by keyboard, on a phone, in the dark."""

import json
import re
import shutil

import pytest

from tests.browser import CHROMIUM, Browser
from tests.contrast import contrasts
from training.release import commands
from training.release.page import render_page
from training.release.records import CARDS, ZOO, read_weights

ARCHITECTURES = ("resnet18", "resnet50", "vit_tiny_patch16_224", "vit_small_patch16_224")
METHODS = ("uscl", "meta_uscl", "hico", "awcl", "simclr")
NASTY = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def many():
    """A made-up zoo of forty weights: two tiers, four architectures, five methods; a third is not measured."""
    zoo = read_weights()
    (model, real) = next(iter(zoo["weights"].items()))
    weights = {}
    for number in range(40):
        arch, method, tier = ARCHITECTURES[number % 4], METHODS[number % 5], ("nc", "open")[number % 2]
        name = f"{arch}.{method}_{tier}{number}"
        entry = json.loads(json.dumps(real).replace(model, name)) | {"arch": arch, "method": method, "tier": tier}
        weights[name] = entry | {"metrics": entry["metrics"] if number % 3 else None}
    return {"default": "resnet18.uscl_nc0", "weights": weights}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def file(many, tmp_path_factory):
    made = tmp_path_factory.mktemp("page") / "index.html"
    made.write_text(render_page(many), encoding="utf-8")
    return made


def test_the_committed_page_is_rendered_from_the_zoo():
    zoo = read_weights()
    committed = (CARDS / "index.html").read_text(encoding="utf-8")
    assert committed == render_page(zoo), "run python -m training.release page"
    for name, entry in zoo["weights"].items():
        assert f'href="{name}/README.md"' in committed and (CARDS / name / "README.md").is_file()
        assert all(licence in committed for licence in (entry["licences"]["weights"], *entry["licences"]["data"]))


def test_the_command_writes_the_same_bytes_again(tmp_path, monkeypatch):
    copy = shutil.copytree(CARDS, tmp_path / "cards", ignore=shutil.ignore_patterns("*.safetensors", "index.html"))
    monkeypatch.setattr("sys.argv", ["release", "page", "--zoo", str(ZOO), "--cards", str(copy)])
    for _ in range(2):
        commands.main()
        assert (copy / "index.html").read_bytes() == (CARDS / "index.html").read_bytes()


def test_numbers_of_the_page_are_those_of_the_zoo(many):
    text = re.sub("</?span[^>]*>", "", render_page(many))  # without the marks that keep an interval on one line
    name, entry = next((name, entry) for name, entry in many["weights"].items() if entry["metrics"])
    article = text[text.index(f">{name}</h2>") :].partition("</article>")[0]
    for report in entry["metrics"].values():
        for row in report["rows"]:
            for levels in row.get("results", {}).values():
                for metrics in levels.values():
                    for metric, told in metrics.items():
                        digits = 1 if metric == "mae" else 3  # tenths of a millimetre
                        value, low, high = (f"{told[key]:.{digits}f}" for key in ("value", "low", "high"))
                        assert f"{value} [{low}, {high}]" in article
    assert "this weight" in article and "random resnet18" in article and "SimCLR" in article


def test_text_from_the_zoo_is_escaped_and_no_script_is_a_link(many):
    entry = json.loads(json.dumps(next(iter(many["weights"].values()))))
    entry |= {"arch": NASTY, "method": NASTY, "paper": {"title": NASTY, "url": "javascript:alert(1)"}, "metrics": None}
    entry["overlap"] = {"benchmarks": {NASTY: {"verdict": "overlap", "clips": {NASTY: "seen"}}}}
    entry["licences"] = {"code": NASTY, "weights": NASTY, "data": [NASTY]}
    entry["corpus"] |= {"organs": [NASTY], "sources": [NASTY]}
    text = render_page({"default": None, "weights": {f"a.{NASTY}": entry}})
    assert text.count("<script>") == 1 and "alert(1)" in text and "javascript:" not in text
    assert not re.search(r"""="[^"]*<script""", text)


def test_it_asks_for_nothing_and_has_no_fault(browser, file):
    browser.open(file)
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    assert browser.requests == [file.as_uri()] and browser.faults == []
    # What a slip in the template would load is refused, by the page itself.
    browser.run("new Image().src = 'http://127.0.0.1:9/x.png'")
    browser.run("fetch('http://127.0.0.1:9/').catch(() => 0)")
    assert len(browser.faults) >= 2 and all("violates" in fault for fault in browser.faults)


def test_filters_by_keyboard(browser, file, many):
    browser.open(file)
    shown = (
        "[...document.querySelectorAll('article')].filter(a => !a.hidden).map(a => a.querySelector('h2').textContent)"
    )
    assert len(browser.run(shown)) == 40
    for _ in range(8):
        browser.press("Tab")
        if browser.run("document.activeElement.name") == "arch":
            break
    assert browser.run("document.activeElement.name") == "arch"
    browser.press("v", "Tab", "Tab", "o")  # a letter chooses the first option that begins with it
    expected = [n for n, e in many["weights"].items() if e["arch"] == "vit_small_patch16_224" and e["tier"] == "open"]
    assert browser.run(shown) == expected and len(expected) == 10
    assert browser.run("document.getElementById('shown').textContent") == "10 of 40 shown"
    browser.press("Tab", *"hico")
    assert browser.run(shown) == [name for name in expected if "hico" in name]
    browser.press("x")
    assert browser.run(shown) == [] and not browser.run("document.getElementById('none').hidden")
    browser.press("Tab", "Enter")  # Reset
    browser.run("new Promise(done => setTimeout(done, 20))")
    assert len(browser.run(shown)) == 40


def test_copy(browser, file, many):
    browser.open(file)
    browser.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    name = next(iter(many["weights"]))
    browser.run("document.querySelector('[data-copies=w0-timm]').focus()")
    browser.press("Enter")
    line = f'timm.create_model("usbackbones/{name}", pretrained=True, in_chans=1, num_classes=0)'
    assert browser.run("navigator.clipboard.readText()") == line
    assert browser.run("document.querySelector('[data-copies=w0-timm]').textContent") == "Copied"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_screen_and_can_be_read(browser, file, width, dark):
    browser.open(file, width=width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    ratios = contrasts(browser)
    assert len(ratios) > 500 and min(ratios.values()) >= 4.5
    assert (browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(16, 22, 28)") == dark


def test_without_javascript_all_is_shown_and_filters_are_absent(browser, file):
    browser.open(file, scripts=False)
    tree = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node.get("ignored")]
    assert roles.count("article") == 40 and not {"combobox", "searchbox", "button"} & set(roles)
