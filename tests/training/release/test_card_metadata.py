"""The metadata of a card: what the Hub reads, valid by the Hub's own reader and by the plainest YAML reader."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from training.release.card_metadata import metadata
from training.release.checks import lint_card
from training.release.records import headline, read_weights

ENTRIES = read_weights()["weights"]


@pytest.fixture
def entry():
    return json.loads(json.dumps(next(iter(ENTRIES.values()))))


@pytest.mark.parametrize("name", ENTRIES)
def test_the_hub_reads_it_and_so_does_plain_yaml(name):
    entry = ENTRIES[name]
    block = metadata(name, entry).to_yaml()
    plain = yaml.safe_load(block)
    assert (plain["library_name"], plain["pipeline_tag"]) == ("timm", "image-feature-extraction")
    assert plain["license"] == entry["licences"]["weights"].lower() and plain["datasets"] == entry["corpus"]["sources"]
    read = ModelCard(f"---\n{block}\n---\n# Card\n").data
    told = {result.dataset_name: result for result in read.eval_results}
    expected = headline(entry["metrics"])
    assert told.keys() == expected.keys() == entry["metrics"].keys() and len(read.eval_results) == len(told)
    for task, numbers in expected.items():
        digits = 1 if numbers["metric"] == "mae" else 3
        assert told[task].metric_type == numbers["metric"]
        assert round(told[task].metric_value, digits) == numbers["value"]
        assert "95 % interval" in told[task].metric_name


def test_a_weight_that_is_not_measured_has_no_index(entry):
    entry["metrics"] = None
    plain = yaml.safe_load(metadata(next(iter(ENTRIES)), entry).to_yaml())
    assert "model-index" not in plain and "metrics" not in plain


def test_a_licence_that_the_hub_does_not_know_keeps_its_name(entry):
    entry["licences"]["weights"] = "In-house licence 1"
    plain = yaml.safe_load(metadata(next(iter(ENTRIES)), entry).to_yaml())
    assert (plain["license"], plain["license_name"]) == ("other", "In-house licence 1")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("library_name: timm", "library_name: other"), "library_name is 'other'"),
        (("license: mit", "license: gpl-3.0"), "license is 'gpl-3.0'"),
        (("license: mit", "license: mit\nvalue: .nan"), "not finite"),
        (("## Limits", "## Praise"), "lacks '## Limits'"),
        (("---\n", ""), "no metadata block"),
    ],
)
def test_the_lint_names_what_is_wrong(change, complaint):
    sections = "\n".join(["Not a medical device", "## Results", "## Data", "## Licences", "## Limits"])
    good = f"---\nlibrary_name: timm\nlicense: mit\npipeline_tag: image-feature-extraction\n---\n{sections}\n"
    assert list(lint_card(good, "MIT")) == []
    assert any(complaint in problem for problem in lint_card(good.replace(*change), "MIT"))


def test_a_tag_that_would_run_code_is_refused():
    with pytest.raises(yaml.YAMLError):
        list(lint_card("---\nx: !!python/object/apply:os.system [ls]\n---\n", "MIT"))
