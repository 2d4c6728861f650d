"""Where a weight's bytes come from.

The order: embedded in the package, the folder of the zoo file that registered it, the folder that
`USBACKBONES_HUB` names, `model_cards/` of the checkout that the package stands in, the Hugging Face cache, the
Hub at a pinned commit. The first place that has the file decides; wherever it came from, its sha256 must be the
registered one. Only safetensors is ever asked for or read, never a pickle.
"""

import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from usbackbones._files import sha256_of
from usbackbones.hub.download import fetch, folder_remedy
from usbackbones.hub.errors import WeightsCorrupt, WeightsNotFound
from usbackbones.hub.zoo import FILE, Weight

FOLDER_VARIABLE = "USBACKBONES_HUB"
_PACKAGE = Path(__file__).resolve().parents[1]


class Place(NamedTuple):
    """A file that may hold a weight, and what to do when it is there but wrong."""

    file: Path
    remedy: str


def locate(weight: Weight, cache_dir: str | Path | None = None) -> Path:
    """Find the file of a weight, in `cache_dir` instead of the default Hugging Face cache, and prove its sha256.

    Raises:
        WeightsNotFound: no place has it, or the Hub has no such repository, commit or file.
        WeightsUnavailable: the Hub cannot be reached, or HF_HUB_OFFLINE forbids to ask it.
        WeightsAccess: the Hub refuses.
        WeightsCorrupt: the sha256 differs.
    """
    places = local_places(weight.name, weight.folder)
    place = next((place for place in places if place.file.is_file()), None)
    if place is not None:
        prove(place, weight)
        return place.file
    if weight.revision is not None:
        return fetch(weight, cache_dir)
    looked = "; ".join(str(place.file) for place in places)
    remedy = folder_remedy(weight.name)
    raise WeightsNotFound.about(weight, f"it was not found here: {looked}", f"{remedy[0].upper()}{remedy[1:]}")


def local_places(name: str, folder: Path | None = None) -> list[Place]:
    """Every local file that may hold the weight, in the order in which they are tried.

    Raises:
        WeightsNotFound: if USBACKBONES_HUB is set but names no folder, which is a slip and not a wish.
    """
    places = [Place(_PACKAGE / "weights" / f"{name}.safetensors", "Reinstall usbackbones")]
    if folder is not None:
        places.append(Place(folder / name / FILE, "Release it again, or register the zoo file that belongs to it"))
    if named := os.environ.get(FOLDER_VARIABLE):
        hub = Path(named).expanduser()
        if not hub.is_dir():
            raise WeightsNotFound(f"{name}: {FOLDER_VARIABLE} is {named!r}, which is no folder. Correct or unset it.")
        places.append(Place(hub / name / FILE, f"Copy it again into that folder, or unset {FOLDER_VARIABLE}"))
    places.append(Place(_PACKAGE.parent / "model_cards" / name / FILE, "Restore it from git"))
    return places


def prove(place: Place, weight: Weight) -> None:
    """Compare a file with the registered sha256.

    Raises:
        WeightsCorrupt: naming the file, both sums and the remedy.
    """
    found = sha256_of(place.file)
    if found != weight.sha256:
        raise WeightsCorrupt.about(
            weight,
            f"{place.file} ({place.file.stat().st_size} bytes) is not the released file: sha256 {found}, "
            f"expected {weight.sha256}",
            place.remedy,
            place.file,
        )


def read(file: Path, weight: Weight) -> dict[str, torch.Tensor]:
    """All tensors of a proven file, on the CPU, in the types they are stored in.

    Raises:
        WeightsCorrupt: if it cannot be read as safetensors.
    """
    try:
        return load_file(file)
    except SafetensorError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise WeightsCorrupt.about(
            weight,
            f"{file} cannot be read as safetensors ({reason}), although its sha256 is the registered one: the "
            "release itself is faulty",
            "Release it again",
            file,
        ) from None
