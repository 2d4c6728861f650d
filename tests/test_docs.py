"""The documents: code that they show runs, names that they use exist, and what is rendered is as rendered now."""

import re
from pathlib import Path

import pytest
import timm

import usbackbones
from tests import matrix

DOCS = Path(__file__).resolve().parents[1] / "docs"
MIGRATION = (DOCS / "from-imagenet.md").read_text(encoding="utf-8")


def test_from_imagenet_runs_from_its_first_line_to_its_last():
    """The blocks are one program: each goes on with the names of those before it."""
    blocks = re.findall(r"```python\n(.+?)```", MIGRATION, re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(compile(block, "docs/from-imagenet.md", "exec"), names)
    assert names["a"].shape == (2, 512)
    frame = names["frames"][0]
    assert names["ours"](frame).shape == names["timms"](timm_image(frame)).shape == (1, 128, 128)


def timm_image(frame):
    from PIL import Image

    return Image.fromarray(frame)


def test_from_imagenet_names_models_that_exist():
    old, new = re.findall(r'create_model\("([^"]+)"', MIGRATION)[:2]
    assert old in timm.list_models(pretrained=True)
    assert new.removeprefix("usbackbones/") in usbackbones.list_weights()


def test_the_sum_over_channels_is_exact_for_one_mean_and_not_for_imagenets_three():
    """What the page says of ImageNet's normalisation, on random weights: timm's 3-channel and 1-channel networks."""
    import torch

    torch.manual_seed(0)
    three = torch.nn.Conv2d(3, 8, 7, bias=False)
    one = torch.nn.Conv2d(1, 8, 7, bias=False)
    one.weight.data = three.weight.data.sum(1, keepdim=True)
    gray = torch.rand(1, 1, 32, 32)
    for mean, std, exact in (([0.5] * 3, [0.25] * 3, True), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False)):
        means, stds = (torch.tensor(values)[:, None, None] for values in (mean, std))
        a = three((gray.expand(-1, 3, -1, -1) - means) / stds)
        b = one((gray - means.mean()) / stds.mean())
        assert ((a - b).abs().max() < 1e-5) == exact


def test_the_oldest_row_is_the_floors_and_the_page_has_every_row():
    assert {"timm==1.0.29", "huggingface_hub==0.36", "torch==2.6"} <= set(matrix.floors())
    assert all(pin.partition("==")[2][0].isdigit() for pin in matrix.floors())
    assert matrix.written(matrix.PAGE.read_text(encoding="utf-8")).keys() >= matrix.ROWS.keys()
    for name in matrix.SUBSET:
        assert (matrix.REPOSITORY / name).is_file()


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_of_the_documents_lead_somewhere(page):
    for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / path).exists(), path
