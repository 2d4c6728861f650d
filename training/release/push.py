"""Put a folder of model_cards/ on the Hub, and pin in zoo.json what was put there.

    python -m training.release push resnet18.uscl_open3 --dry-run      what would change
    python -m training.release push resnet18.uscl_open3                the folder as it is, in one commit

The Hub is the one that HF_ENDPOINT names, the account that of HF_TOKEN or `hf auth login`. A commit is tagged, so that
no cleaning of the repository's history can remove it, and zoo.json gets its id only after every file was downloaded
again and compared.
"""

import difflib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    constants,
    hf_hub_download,
)
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from training.data.records import CARDS, ZOO
from training.release.checks import refuse_folder
from training.release.records import entry_of, read_weights, write_weights
from usbackbones.hub.download import fetch
from usbackbones.hub.errors import WeightsError
from usbackbones.hub.reachability import why_unreachable
from usbackbones.hub.zoo import parse_entry

_THE_HUBS_OWN = ".gitattributes"  # made by the Hub with the repository


class PushError(ValueError):
    """A push that was refused or went wrong. zoo.json is then as it was."""


@dataclass(frozen=True)
class Change:
    """A file that differs: "+" is new, "~" other, "-" no longer there."""

    sign: str
    file: str


def push(
    name: Annotated[str, tyro.conf.Positional],
    org: str = "",
    private: bool = False,
    dry_run: bool = False,
    zoo: Path = ZOO,
    cards: Path = CARDS,
) -> None:
    """Publish a weight's folder on the Hub, and write the commit and the organisation into zoo.json.

    Args:
        name: <arch>.<tag>, as in the zoo.
        org: organisation or account on the Hub; that of the zoo if none is named.
        private: make a new repository private.
        dry_run: only show what would change.
        zoo: the zoo to read and write.
        cards: the folder of model folders.
    """
    for line in push_lines(name, org, private, dry_run, zoo, cards):
        print(line, flush=True)  # noqa: T201


def push_lines(name: str, org: str, private: bool, dry_run: bool, zoo: Path, cards: Path) -> Iterator[str]:
    """Do what `push` does, and say it line by line.

    Raises:
        CorpusError: there is no such weight.
        ReleaseError: the folder must not be published; nothing was sent.
        PushError: the Hub refuses or is not reached, or has other bytes afterwards than were sent.
    """
    content = read_weights(zoo, cards)
    entry = entry_of(content, name)
    repo_id = f"{org or content['organisation']}/{name}"
    refuse_folder(name, entry, cards / name)
    if reason := why_unreachable(constants.ENDPOINT):
        raise PushError(f"{constants.ENDPOINT} is not reached: {reason}")
    try:
        remote = _remote(repo_id)
        changes = _changes(cards / name, remote)
        yield f"{constants.ENDPOINT}/{repo_id}" + ("" if remote else " (new)")
        yield from _told(changes, cards / name, remote)
        if dry_run:
            return
        revision = _upload(repo_id, cards / name, remote, changes, private)
        pinned = {**entry, "hub_id": repo_id, "revision": revision}
        _verify(name, pinned, cards / name)
        HfApi().create_tag(repo_id, tag=f"pinned-{revision[:12]}", revision=revision, exist_ok=True)
    except HfHubHTTPError as error:
        told = " ".join(str(error).split())[:300]
        raise PushError(f"{repo_id}: {told}. Is HF_TOKEN a token that may write there?") from error
    except WeightsError as error:
        raise PushError(f"{repo_id} was sent, but does not come back: {error}") from error
    except (OSError, RuntimeError) as error:
        # The client wraps what went wrong with an upload into a sentence that does not say it.
        told = " ".join(f"{error} {error.__cause__ or ''}".split())[:300]
        raise PushError(
            f"{repo_id}: the transfer failed ({told}). Push again; what has arrived is not sent again"
        ) from error
    content["weights"][name] = pinned
    try:
        write_weights(content, zoo, cards)
    except OSError as error:
        raise PushError(
            f"{repo_id} is on the Hub at commit {revision}, but {zoo} could not be written ({error.strerror}): make it "
            "writable and push again, which sends nothing and pins it"
        ) from error
    yield f"downloaded again and equal; {zoo} pins commit {revision}, sha256 {entry['sha256']}"


def _remote(repo_id: str) -> ModelInfo | None:
    """The repository as it is on the Hub; None if it is not there."""
    try:
        return HfApi().model_info(repo_id, files_metadata=True)
    except RepositoryNotFoundError:
        return None


def _changes(folder: Path, remote: ModelInfo | None) -> list[Change]:
    """How the folder differs from the repository."""
    theirs = {}
    for sibling in (remote.siblings if remote else None) or []:
        large: Any = sibling.lfs
        theirs[sibling.rfilename] = large["sha256"] if large else sibling.blob_id
    changes = []
    ours = {file.name for file in folder.iterdir()}
    for file in sorted(ours):
        held = (folder / file).read_bytes()
        sums = (hashlib.sha256(held).hexdigest(), hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest())
        if file not in theirs:
            changes.append(Change("+", file))
        elif theirs[file] not in sums:
            changes.append(Change("~", file))
    return changes + [Change("-", file) for file in sorted(theirs.keys() - ours - {_THE_HUBS_OWN})]


def _told(changes: list[Change], folder: Path, remote: ModelInfo | None) -> Iterator[str]:
    """The changes for a reader: names and sizes, and of texts the lines."""
    if not changes:
        yield "  no change"
    for change in changes:
        file = folder / change.file
        yield f"  {change.sign} {change.file}" + (f" {file.stat().st_size:,} bytes" if change.sign != "-" else "")
        if change.sign == "~" and file.suffix in (".md", ".json") and remote is not None:
            with tempfile.TemporaryDirectory() as temporary:
                before = Path(hf_hub_download(remote.id, change.file, revision=remote.sha, cache_dir=temporary))
                old, new = (path.read_text(encoding="utf-8").splitlines() for path in (before, file))
            yield from (f"    {line}" for line in difflib.unified_diff(old, new, "Hub", "folder", lineterm="", n=1))


def _upload(repo_id: str, folder: Path, remote: ModelInfo | None, changes: list[Change], private: bool) -> str:
    """Make the repository like the folder; returns its commit, the present one if nothing differs."""
    if remote is not None and not changes:
        return str(remote.sha)
    api = HfApi()
    if remote is None:
        api.create_repo(repo_id, private=private)
    operations = [
        CommitOperationDelete(change.file)
        if change.sign == "-"
        else CommitOperationAdd(change.file, str(folder / change.file))
        for change in changes
    ]
    # With the parent named, the Hub refuses if somebody else has pushed since the comparison.
    parent = remote.sha if remote else None
    commit = api.create_commit(repo_id, operations, commit_message=f"Release {folder.name}", parent_commit=parent)
    return commit.oid


def _verify(name: str, entry: dict[str, Any], folder: Path) -> None:
    """Download every file at the commit into a cache of its own, as a user would, and compare."""
    with tempfile.TemporaryDirectory() as temporary:
        fetch(parse_entry(name, entry), cache_dir=temporary)
        for file in sorted(folder.iterdir()):
            got = Path(hf_hub_download(entry["hub_id"], file.name, revision=entry["revision"], cache_dir=temporary))
            if got.read_bytes() != file.read_bytes():
                raise PushError(
                    f"{file.name} of {entry['hub_id']} at {entry['revision']} is not the file that was sent"
                )
