"""What is committed: cards, lists and tables are what zoo.json says, and every weight is what its entry says."""

import json
import re

import pytest

from training.data.locked_splits import locked_split
from training.release.card import all_reports, own_rows, render_card, render_figure, render_readme, render_results
from training.release.commands import EMBEDDED
from training.release.render import CARDS, FIGURE, README, RESULTS, ZOO


def test_the_committed_cards_are_rendered_from_the_zoo():
    zoo = json.loads(ZOO.read_text())
    assert {path.name for path in CARDS.iterdir() if path.is_dir()} == set(zoo["weights"])
    for name, entry in zoo["weights"].items():
        assert (CARDS / name / "README.md").read_text(encoding="utf-8") == render_card(name, entry)


def test_the_embedded_weight_is_the_default_and_the_same_bytes():
    zoo = json.loads(ZOO.read_text())
    assert [file.name for file in EMBEDDED.glob("*.safetensors")] == [f"{zoo['default']}.safetensors"]
    published = CARDS / zoo["default"] / "model.safetensors"
    assert published.read_bytes() == (EMBEDDED / f"{zoo['default']}.safetensors").read_bytes()


def test_committed_weights_saw_no_locked_group():
    for name, entry in json.loads(ZOO.read_text())["weights"].items():
        for source in entry["corpus"]["sources"]:
            assert not set(entry["corpus"]["groups"]) & set(locked_split(source)["test"]), name


def test_the_readme_is_rendered_from_the_zoo_and_names_only_what_exists():
    zoo = json.loads(ZOO.read_text())
    text = README.read_text(encoding="utf-8")
    assert render_readme(text, zoo) == text
    assert RESULTS.read_text(encoding="utf-8") == render_results(zoo)
    assert FIGURE.read_text(encoding="utf-8") == render_figure(zoo)
    named = set(re.findall(r"\b(?:resnet|vit_)\w*\.\w+_(?:open|nc)\d+", text))
    assert zoo["default"] in named and named <= set(zoo["weights"])


def test_a_weight_keeps_its_own_rows_and_a_table_of_all_has_each_once():
    def report(*models):
        return {"task": "lung", "command": "measure", "rows": [{"model": model, "of": models[0]} for model in models]}

    shared = report("usbackbones/a", "usbackbones/b", "random:r", "SimCLR r")
    own = {name: own_rows(name, shared) for name in ("a", "b")}
    assert [row["model"] for row in own["b"]["rows"]] == ["usbackbones/b", "random:r", "SimCLR r"]
    zoo = {"weights": {name: {"metrics": {"lung": own[name]}} for name in ("a", "b")} | {"c": {"metrics": None}}}
    rows = [row["model"] for row in all_reports(zoo)["lung"]["rows"]]
    assert rows == ["usbackbones/a", "usbackbones/b", "random:r", "SimCLR r"]


def test_a_readme_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="lost its marker <!-- weights"):
        render_readme("# no markers", {"weights": {}})
