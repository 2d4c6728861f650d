"""Where a weight's bytes come from, and the proof that they are the released ones.

The order: embedded in the package, the folder of the zoo file that registered it, the folder that
`USBACKBONES_HUB` names, `model_cards/` of the checkout that the package stands in, the Hugging Face cache, the
Hub at a pinned commit. The first place that has the file decides; wherever it came from, its sha256 must be the
registered one. Only safetensors is ever asked for or read, never a pickle.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file

FILE = "model.safetensors"
FOLDER_VARIABLE = "USBACKBONES_HUB"
_PACKAGE = Path(__file__).resolve().parent
# What a broken connection raises: OSError, or the base class of the HTTP library that this huggingface_hub uses
# (requests, httpx or httpx2), which is the first base of its own HTTP error.
_TRANSPORT_ERRORS: tuple[type[BaseException], ...] = (OSError, HfHubHTTPError.__bases__[0])
_verified: set[tuple[str, str, int, int]] = set()


class WeightsError(Exception):
    """A weight that cannot be had. The message names the weight, the place and the remedy."""


class WeightsNotFound(WeightsError, FileNotFoundError):
    """No place has the file."""


class WeightsUnavailable(WeightsError, ConnectionError):
    """The Hub has to be asked and cannot be reached."""


class WeightsAccess(WeightsError, PermissionError):
    """The Hub refuses: a private or gated repository."""


class WeightsCorrupt(WeightsError, ValueError):
    """The file is there but is not what was released."""


class Place(NamedTuple):
    """A file that may hold a weight, and what to do when it is there but wrong."""

    file: Path
    remedy: str


def locate(
    name: str,
    *,
    sha256: str,
    hub_id: str,
    revision: str | None = None,
    folder: Path | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Find the file of a weight and prove it.

    Args:
        name: `<arch>.<tag>`.
        sha256: 64 hex digits of the released file.
        hub_id: `<organisation>/<name>` on the Hub.
        revision: 40-hex commit of that repository; None when the weight is not on the Hub.
        folder: folder of the zoo file that registered the weight, if it came from one.
        cache_dir: another Hugging Face cache than the default.

    Returns:
        A local safetensors file whose sha256 is the given one.

    Raises:
        WeightsNotFound: no place has it, or the Hub has no such repository, commit or file.
        WeightsUnavailable: the Hub cannot be reached, or HF_HUB_OFFLINE forbids to ask it.
        WeightsAccess: the Hub refuses.
        WeightsCorrupt: the sha256 differs.
    """
    places = local_places(name, folder)
    place = next((place for place in places if place.file.is_file()), None)
    if place is None and revision is None:
        looked = "; ".join(str(place.file) for place in places)
        raise WeightsNotFound(
            f"{name} is not on the Hub yet and was not found here: {looked}. Remedy: {_folder_remedy(name)}."
        )
    if place is None:
        place = _download(name, hub_id, str(revision), cache_dir)
    verify(place, sha256, name)
    return place.file


def local_places(name: str, folder: Path | None = None) -> list[Place]:
    """Every local file that may hold the weight, in the order in which they are tried.

    Raises:
        WeightsNotFound: if USBACKBONES_HUB is set but names no folder, which is a slip and not a wish.
    """
    places = [Place(_PACKAGE / "weights" / f"{name}.safetensors", "Reinstall usbackbones.")]
    if folder is not None:
        places.append(Place(folder / name / FILE, "Release it again, or register the zoo file that belongs to it."))
    if named := os.environ.get(FOLDER_VARIABLE):
        hub = Path(named).expanduser()
        if not hub.is_dir():
            raise WeightsNotFound(f"{name}: {FOLDER_VARIABLE} is {named!r}, which is no folder. Correct or unset it.")
        places.append(Place(hub / name / FILE, f"Copy it again into that folder, or unset {FOLDER_VARIABLE}."))
    places.append(Place(_PACKAGE.parent / "model_cards" / name / FILE, "Restore it from git."))
    return places


def _download(name: str, hub_id: str, revision: str, cache_dir: str | Path | None) -> Place:
    """The file from the Hugging Face cache, which makes no request, or else from the Hub."""
    where = f"{name} (https://huggingface.co/{hub_id}, commit {revision}, file {FILE})"
    try:
        file = Path(hf_hub_download(hub_id, FILE, revision=revision, cache_dir=cache_dir))
    except LocalEntryNotFoundError as error:
        raise WeightsUnavailable(
            f"{where}: not in the cache, and the Hub was not reached ({_first_line(error)}). Connect, unset "
            f"HF_HUB_OFFLINE, or {_folder_remedy(name)}."
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise WeightsAccess(
                f"{where}: the Hub refused, HTTP {status}. The repository is private, gated or gone: "
                f"log in with `hf auth login`, or accept its terms in a browser."
            ) from error
        if status == 404:
            raise WeightsNotFound(
                f"{where}: the Hub has no such repository, commit or file. Update usbackbones, "
                f"or {_folder_remedy(name)}."
            ) from error
        raise WeightsUnavailable(f"{where}: the Hub answered HTTP {status}. Try again later.") from error
    except _TRANSPORT_ERRORS as error:
        raise WeightsUnavailable(f"{where}: the download broke off ({_first_line(error)}). Try again.") from error
    return Place(file, "Delete it; the next call downloads it again.")


def _folder_remedy(name: str) -> str:
    return f"set {FOLDER_VARIABLE} to a folder that holds {name}/{FILE}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def verify(place: Place, sha256: str, name: str) -> None:
    """Compare the file with the registered sha256, once per process as long as its size and time stay the same.

    Raises:
        WeightsCorrupt: naming the file, both sums and the remedy.
    """
    stat = place.file.stat()
    proof = (str(place.file), sha256, stat.st_size, stat.st_mtime_ns)
    if proof in _verified:
        return
    with place.file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise WeightsCorrupt(
            f"{name}: {place.file} ({stat.st_size} bytes) is not the released file: sha256 {found}, "
            f"expected {sha256}. {place.remedy}"
        )
    _verified.add(proof)


def read(file: Path, name: str) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU, in the types they are stored in.

    Raises:
        WeightsCorrupt: if it cannot be read as safetensors.
    """
    try:
        return load_file(file)
    except SafetensorError as error:
        raise WeightsCorrupt(
            f"{name}: {file} cannot be read as safetensors ({_first_line(error)}), although its sha256 is the "
            "registered one: the release itself is faulty. Release it again."
        ) from error
