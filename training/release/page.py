"""Render model_cards/index.html, the page of all weights; it says nothing that zoo.json and the records do not.

One file that loads nothing, so it can be opened from a disk. Without JavaScript all weights are shown; with it they can
be filtered, and snippets copied.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.data.fingerprints import Overlap
from training.release.page_table import all_numbers, headline
from training.release.records import corpus_told, shown_order
from usbackbones.report.markup import Markup, element, joined, link, page
from usbackbones.report.style import STYLE

_HERE = Path(__file__).parent
HUB = "https://huggingface.co/"
TIERS = {"open": "open: any use", "nc": "nc: no commercial use"}
"""What a licence tier means, in a word or two."""
_FILTERS = {"arch": "Architecture", "method": "Method", "tier": "Licence tier"}


def render_page(zoo: Mapping[str, Any]) -> str:
    """The page of what `training.release.records.read_weights` returned."""
    weights = {name: zoo["weights"][name] for name in shown_order(zoo)}
    cards = [_card(number, name, entry, name == zoo["default"]) for number, (name, entry) in enumerate(weights.items())]
    body = [
        element(
            "header",
            element("h1", "Ultrasound backbones"),
            element(
                "p",
                "Networks pretrained on ultrasound clips, which load through timm in one line. Numbers stand beside "
                "random weights of the same architecture and plain SimCLR, where these were run: a weight that does "
                "not beat them shows no gain on that task.",
            ),
            element(
                "p",
                element("strong", "Not a medical device."),
                " For research, never for diagnosis. Three licences apply, of the code, of the weights and of the data "
                "that they were trained on; all three stand with each weight.",
                class_="warning",
            ),
            _snippet("install", "Install, from a checkout", "pip install ."),
            _filters(weights),
        ),
        element("main", *cards, class_="cards"),
        element("p", "No weight is like that. Reset the filters.", id="none", hidden=True),
        element(
            "footer",
            element("p", f"{len(weights)} weight{'s' * (len(weights) != 1)}, rendered from their records."),
            class_="soft",
        ),
    ]
    return page("Ultrasound backbones", body, STYLE + _read("page.css"), _read("page.js"))


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _filters(weights: Mapping[str, Mapping[str, Any]]) -> Markup:
    """The form; hidden until the script, which it needs, is there."""
    fields = []
    for key, told in _FILTERS.items():
        values = sorted({str(entry[key]) for entry in weights.values()})
        named = [(value, TIERS.get(value, value) if key == "tier" else value) for value in values]
        options = [element("option", name, value=value) for value, name in [("", "all"), *named]]
        fields.append(element("label", told, element("select", *options, name=key)))
    words = element("input", type="search", id="words", autocomplete="off", placeholder="name, organ, dataset")
    return element(
        "form",
        *fields,
        element("label", "Words", words),
        element("button", "Reset", type="reset"),
        element("output", id="shown", aria_live="polite"),
        id="filters",
        class_="filters",
        aria_label="Filter the weights",
        hidden=True,
    )


def _card(number: int, name: str, entry: Mapping[str, Any], default: bool) -> Markup:
    corpus, paper, given = entry["corpus"], entry["paper"], entry["input"]
    organs, sources = corpus.get("organs", []), corpus.get("sources", [])
    badges = [entry["arch"], entry["method"], TIERS.get(entry["tier"], entry["tier"])]
    badges += ["default, inside the package"] * default
    size = f"{entry['bytes'] / 1e6:.1f} MB"
    facts = (
        f"{entry['num_features']} features from {given['size']} x {given['size']} px, one gray channel or three. "
        f"{size}. Trained with {paper['title']}"
    )
    groups = f" on {corpus_told(corpus)}" if corpus.get("clips") else ""
    places = f" ({', '.join(sources)}; {', '.join(organs)})." if sources else "."
    full = f"usbackbones/{name}"
    load = f'timm.create_model("{full}", pretrained=True, in_chans=1, num_classes=0)'
    links = [element("a", "Card", href=f"{name}/README.md"), link("Paper", paper["url"])]
    links += [link("Hub", f"{HUB}{entry['hub_id']}/tree/{entry['revision']}")] if entry["revision"] else []
    identity = f"w{number}"
    return element(
        "article",
        element("h2", name, id=identity),
        element("ul", *(element("li", badge) for badge in badges), class_="badges"),
        element("p", facts + groups + places),
        _snippet(f"{identity}-timm", "With timm, after import timm, usbackbones", load),
        _snippet(
            f"{identity}-cli", "On the command line", f"usbackbones embed clip.mp4 --model {name} -o features.npz"
        ),
        _licences(entry["licences"]),
        element("h3", "Measured on frozen features"),
        headline(name, entry["metrics"]),
        element("details", element("summary", "All numbers"), all_numbers(name, entry["metrics"]))
        if entry["metrics"]
        else Markup(""),
        element("details", element("summary", "Overlap with benchmarks"), _overlap(entry["overlap"])),
        element("ul", *(element("li", one) for one in links), class_="links"),
        aria_labelledby=identity,
        data_arch=entry["arch"],
        data_method=entry["method"],
        data_tier=entry["tier"],
        data_words=" ".join([name, entry["arch"], entry["method"], *organs, *sources]).lower(),
    )


def _snippet(identity: str, told: str, code: str) -> Markup:
    """A line to copy; the button waits for the script."""
    button = element("button", "Copy", type="button", hidden=True, data_copies=identity, aria_label=f"Copy: {told}")
    line = element("pre", element("code", code, id=identity), tabindex="0", role="region", aria_label=told)
    return element("div", line, button, class_="snippet")


def _overlap(overlap: Mapping[str, Any]) -> Markup:
    """What the weight has seen of each benchmark, by patient and by fingerprint of frames."""
    lines = [
        f"{name}: {Overlap(found['verdict'], found['clips'])}" for name, found in overlap.get("benchmarks", {}).items()
    ]
    if "locked_test_groups" in overlap:
        lines.insert(0, f"groups of a locked test part that it was trained on: {overlap['locked_test_groups']}")
    if not overlap.get("benchmarks"):
        lines.append("benchmarks: not compared by fingerprint of frames")
    return element("ul", *(element("li", line) for line in lines))


def _licences(licences: Mapping[str, Any]) -> Markup:
    told = {"Code licence": licences["code"], "Weights": licences["weights"], "Data": "; ".join(licences["data"])}
    return element(
        "dl",
        joined(text for what, licence in told.items() for text in (element("dt", what), element("dd", licence))),
        class_="facts",
    )
