"""A small corpus of simulated clips."""

import pytest
import torch
from PIL import Image

from tests.phantoms import phantom_clip
from training.data.manifest import Row
from training.data.prepare.run import prepare
from training.engine.process import same_bits


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Eight phantom clips as a prepared cache."""
    root = tmp_path_factory.mktemp("phantom")
    rows = []
    for number in range(8):
        folder = root / f"clip{number}"
        folder.mkdir()
        for index, frame in enumerate(phantom_clip(number, frames=6, size=48)):
            Image.fromarray(frame).save(folder / f"{index}.png")
        rows.append(
            Row(str(folder), f"clip{number}", f"patient{number}", "phantom", "ab"[number % 2], "CC0", "phantom")
        )
    prepare(rows, root / "cache", size=48, jobs=1, progress=False)
    return root / "cache"


@pytest.fixture
def deterministic():
    """A GPU, where there is one, computes the same bits every time: for tests that compare them."""
    with same_bits(torch.device("cuda" if torch.cuda.is_available() else "cpu"), on=True):
        yield
