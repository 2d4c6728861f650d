"""What is read: files with their ranges, lists of files, and what is known of a repository."""

import re
from typing import Any
from urllib.parse import parse_qs

import yaml

from tests.hub_server.messages import Answer, Request
from tests.hub_server.state import State
from tests.hub_server.store import Commit, File, Repository, as_listed, pointer


def resolve(state: State, request: Request, repository: Repository, commit: Commit, path: str) -> Answer:
    """A file: small ones at once, large ones by a redirection to their store.

    Clients follow a redirection within one host with the token and without the headers that they look for, so a
    large file is given at once where this machine has one name only.
    """
    stamp = {"X-Repo-Commit": commit.oid}
    file = commit.files.get(path)
    if file is None:
        return Answer.refusal(404, "EntryNotFound", "Entry not found", **stamp)
    if not file.large:
        content = state.store.blob(file.sha256).read_bytes()
        return _part(content, request, {**stamp, "ETag": f'"{file.oid}"', "Content-Type": "text/plain"})
    headers = {
        **stamp,
        "ETag": f'"{file.sha256}"',
        "X-Linked-ETag": f'"{file.sha256}"',
        "X-Linked-Size": str(file.size),
    }
    there = state.signed(request, f"/blob/{file.sha256}")
    if there.startswith(request.origin):
        return _part(state.store.blob(file.sha256).read_bytes(), request, headers)
    return Answer(b"", 302, {**headers, "Location": there})


def blob(state: State, request: Request, sha256: str) -> Answer:
    """The bytes of a large file, to who has a signed address."""
    file = state.store.blob(sha256)
    if request.query.get("key") != state.key(request.path) or not file.is_file():
        return Answer.refusal(403)
    return _part(file.read_bytes(), request, {"ETag": f'"{sha256}"', "Content-Type": "application/octet-stream"})


def _part(content: bytes, request: Request, headers: dict[str, str]) -> Answer:
    """The whole, or the range that was asked for."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range") or "")
    if asked is None or asked[0] == "bytes=-":
        return Answer(content, 200, headers)
    first, last = asked.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= end:
        return Answer(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
    return Answer(content[start:end], 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})


def info(state: State, request: Request, repository: Repository, commit: Commit) -> Answer:
    """What is known of a repository at a commit."""
    return Answer.of(_info(state, repository, commit, sizes="blobs" in request.query))


def listing(state: State, request: Request) -> Answer:
    """The repositories, by organisation, words and tags; private ones to members only."""
    query = request.query
    wanted = [word for word in (query.get("filter") or "").split(",") if word]
    found = []
    for repository in state.store.repositories.values():
        if repository.private and not state.is_member(request):
            continue
        about = _info(state, repository, repository.at("main"), sizes=False)
        if query.get("author") not in (None, repository.id.split("/")[0]):
            continue
        if (query.get("search") or "").lower() in repository.id.lower() and set(wanted) <= set(about["tags"]):
            found.append(about)
    return Answer.of(found[: int(query.get("limit") or len(found))])


def tree(state: State, request: Request, repository: Repository, commit: Commit, folder: str) -> Answer:
    """The files below a folder; all levels, whether asked for or not, since ours have one."""
    below = f"{folder}/" if folder else ""
    return Answer.of([as_listed(path, file) for path, file in commit.files.items() if path.startswith(below)])


def paths_info(state: State, request: Request, repository: Repository, commit: Commit) -> Answer:
    """The files of these names, which come as a form; what is not there is left out."""
    paths = parse_qs(request.body.decode()).get("paths", [])
    return Answer.of([as_listed(path, commit.files[path]) for path in paths if path in commit.files])


def refs(state: State, request: Request, repository: Repository) -> Answer:
    """The branches and tags."""
    return Answer.of(
        {
            "branches": _refs("heads", repository.branches),
            "tags": _refs("tags", repository.tags),
            "converts": [],
        }
    )


def history(state: State, request: Request, repository: Repository, commit: Commit) -> Answer:
    """The commits of a branch, the newest first."""
    oids = list(repository.commits)
    until = [repository.commits[oid] for oid in oids[: oids.index(commit.oid) + 1]]
    about = [
        {"id": one.oid, "title": one.title, "message": "", "date": one.date, "authors": []} for one in reversed(until)
    ]
    return Answer.of(about)


def card(content: bytes) -> dict[str, Any]:
    """The metadata block of a README.md, empty if there is none that can be read."""
    block = re.match(rb"---\r?\n(.*?)\r?\n---\r?\n", content, re.DOTALL)
    try:
        data = yaml.safe_load(block[1]) if block else {}
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def _refs(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in names.items()]


def _info(state: State, repository: Repository, commit: Commit, sizes: bool) -> dict[str, Any]:
    readme = commit.files.get("README.md")
    data = card(state.store.blob(readme.sha256).read_bytes()) if readme else {}
    first = next(iter(repository.commits.values()))
    return {
        "_id": first.oid[:24],
        "id": repository.id,
        "modelId": repository.id,
        "author": repository.id.split("/")[0],
        "sha": commit.oid,
        "createdAt": first.date,
        "lastModified": commit.date,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "library_name": data.get("library_name"),
        "pipeline_tag": data.get("pipeline_tag"),
        "tags": [*map(str, data.get("tags") or []), f"license:{data.get('license')}"],
        "cardData": data,
        "siblings": [_sibling(path, file, sizes) for path, file in commit.files.items()],
    }


def _sibling(path: str, file: File, sizes: bool) -> dict[str, Any]:
    about: dict[str, Any] = {"rfilename": path}
    if sizes:
        about |= {"size": file.size, "blobId": file.oid}
        if file.large:
            size = len(pointer(file.sha256, file.size))
            about["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": size}
    return about
