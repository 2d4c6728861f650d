"""A weight from the Hugging Face cache, or from the Hub into that cache, proven; what is damaged there is replaced.

The transfer is huggingface_hub's own, so its settings hold: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, proxies.
What is added: a proven file in the cache costs no request; a network that is down is told at once; a file that
is not the released one is downloaded again, once, and never left in the cache; every failure has a class and a remedy.
"""

import errno
import time
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from usbackbones._files import sha256_of
from usbackbones.hub.errors import WeightsAccess, WeightsCorrupt, WeightsError, WeightsNotFound, WeightsUnavailable
from usbackbones.hub.reachability import why_unreachable
from usbackbones.hub.zoo import FILE, Weight

# What a broken connection raises: OSError; the base class of the HTTP library that this huggingface_hub uses
# (requests, httpx or httpx2), which is the first base of its own HTTP error; and RuntimeError, from its Xet transfer.
_TRANSFER_ERRORS: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0], RuntimeError)
# How its session is told to stay: a redirection of a large file leads to a store that need not be asked.
_STAY: dict[str, Any] = {
    ("allow_redirects" if issubclass(HfHubHTTPError.__bases__[0], OSError) else "follow_redirects"): False
}
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_PAUSES = (1.0, 2.0)  # seconds before the Hub is asked again after an answer that it is busy
_BUSY = (429, 500, 502, 503, 504)


def fetch(weight: Weight, cache_dir: str | Path | None = None) -> Path:
    """Find a weight in the Hugging Face cache or download it, at its pinned commit.

    Args:
        weight: one that is on the Hub; its `revision` is not None.
        cache_dir: another cache than the default.

    Returns:
        The file in the cache; its sha256 is the registered one.

    Raises:
        WeightsNotFound: the Hub has no such repository, commit or file.
        WeightsUnavailable: the Hub cannot be reached, or HF_HUB_OFFLINE forbids to ask it.
        WeightsAccess: the Hub refuses.
        WeightsCorrupt: the Hub sends other bytes than the released ones, or the cache holds such and cannot be mended.
    """
    cached = try_to_load_from_cache(weight.hub_id, FILE, cache_dir=cache_dir, revision=weight.revision)
    if not isinstance(cached, str):
        _ask(weight)
        return _download(weight, cache_dir, attempts=2)
    file = Path(cached)
    if (found := sha256_of(file)) == weight.sha256:
        return file
    try:
        _ask(weight)
        _forget(file)
        return _download(weight, cache_dir, attempts=1)
    except OSError as error:  # among them all of ours but WeightsCorrupt
        raise WeightsCorrupt.about(
            weight,
            f"{file} is not the released file, sha256 {found}, expected {weight.sha256}, and could not be replaced: "
            f"{error.fault if isinstance(error, WeightsError) else _told(error)}",
            "Delete it; the next call downloads it again",
            file,
        ) from None


def _ask(weight: Weight) -> None:
    """Ask the Hub whether it has the file, by one small request, before a client that retries for long is started."""
    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable.about(
            weight,
            "it is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub",
            f"Unset HF_HUB_OFFLINE, or {folder_remedy(weight.name)}",
        )
    if reason := why_unreachable(constants.ENDPOINT):
        raise _unavailable(weight, f"it is not in the cache, and the Hub is not reached ({reason})")
    url = hf_hub_url(weight.hub_id, FILE, revision=weight.revision)
    for pause in (*_PAUSES, None):
        try:
            # Not get_hf_file_metadata, which in versions below 1 asks six times, for 23 seconds.
            answer = get_session().head(url, headers=build_hf_headers(), timeout=constants.HF_HUB_ETAG_TIMEOUT, **_STAY)
            hf_raise_for_status(answer)
        except HfHubHTTPError as error:
            if pause is None or _status(error) not in _BUSY:
                raise _refused(weight, error) from None
            time.sleep(pause)
        except _TRANSFER_ERRORS as error:
            raise _unavailable(weight, f"the Hub gave no answer ({_told(error)})") from None
        else:
            break
    if answer.status_code == 200 and "X-Repo-Commit" not in answer.headers:
        raise _unavailable(
            weight, f"{constants.ENDPOINT} answers, but not as a Hub does: a proxy or a log-in page may be in between"
        )


def _download(weight: Weight, cache_dir: str | Path | None, attempts: int) -> Path:
    """Download the file and prove it, so many times at most; what fails the proof is removed."""
    for _ in range(attempts):
        file = _transfer(weight, cache_dir)
        if (found := sha256_of(file)) == weight.sha256:
            return file
        _forget(file)
    raise WeightsCorrupt.about(
        weight,
        f"{constants.ENDPOINT} sends a file of sha256 {found}, the released one has {weight.sha256}",
        f"Do not use it. Set HF_ENDPOINT to a Hub that you trust, or {folder_remedy(weight.name)}",
        file,
    )


def _transfer(weight: Weight, cache_dir: str | Path | None) -> Path:
    """Let huggingface_hub put the file into the cache.

    Version 2 resumes a broken transfer by itself. Earlier ones keep what has arrived and continue when they are
    called again, which is done here for as long as something more arrives.
    """
    partial = _partial_size(weight, cache_dir)
    while True:
        try:
            return Path(hf_hub_download(weight.hub_id, FILE, revision=weight.revision, cache_dir=cache_dir))
        except LocalEntryNotFoundError as error:
            raise _unavailable(weight, f"the Hub went away ({_told(error.__cause__ or error)})") from None
        except HfHubHTTPError as error:
            raise _refused(weight, error) from None
        except _TRANSFER_ERRORS as error:
            if isinstance(error, OSError) and error.errno in _NO_PLACE:
                raise WeightsUnavailable.about(
                    weight,
                    f"it cannot be stored in the cache ({_told(error)})",
                    "Make room there, or set HF_HOME to another folder",
                ) from None
            before, partial = partial, _partial_size(weight, cache_dir)
            if partial <= before:
                raise _unavailable(weight, f"the download broke off ({_told(error)})") from None


def _partial_size(weight: Weight, cache_dir: str | Path | None) -> int:
    """Bytes of unfinished downloads of this repository in the cache."""
    folder = Path(cache_dir or constants.HF_HUB_CACHE) / repo_folder_name(repo_id=weight.hub_id, repo_type="model")
    return sum(file.stat().st_size for file in (folder / "blobs").glob("*.incomplete"))


def _forget(file: Path) -> None:
    """Remove a file from the cache: the entry of the snapshot, and the blob that it points at.

    A blob is removed only inside the same repository's folder, wherever the entry may point.
    """
    storage = file.parents[2]
    blob = file.parent / file.readlink() if file.is_symlink() else None
    file.unlink(missing_ok=True)
    if blob is not None and blob.parent.resolve() == (storage / "blobs").resolve():
        blob.unlink(missing_ok=True)


def _refused(weight: Weight, error: HfHubHTTPError) -> WeightsError:
    status = _status(error)
    if status in (401, 403):
        page = f"{constants.ENDPOINT}/{weight.hub_id}"
        return WeightsAccess.about(
            weight,
            f"the Hub refused, HTTP {status}; the repository is private, gated or gone",
            f"Log in with `hf auth login`, or accept its terms at {page}",
        )
    if status == 404:
        return WeightsNotFound.about(
            weight,
            f"{constants.ENDPOINT} has no such repository, commit or file",
            f"Update usbackbones, or {folder_remedy(weight.name)}",
        )
    return _unavailable(weight, f"the Hub answered HTTP {status}")


def _unavailable(weight: Weight, fault: str) -> WeightsUnavailable:
    return WeightsUnavailable.about(weight, fault, f"Try again later, or {folder_remedy(weight.name)}")


def folder_remedy(name: str) -> str:
    """How to use a copy of the file instead."""
    return f"set USBACKBONES_HUB to a folder that holds {name}/{FILE}, as model_cards of a clone does"


def _status(error: HfHubHTTPError) -> int | None:
    return getattr(error.response, "status_code", None)


def _told(error: BaseException) -> str:
    """The first line of an error, for a parenthesis."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
