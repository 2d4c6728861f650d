"""What is written: repositories, large files, commits, branches and tags."""

import base64
import hashlib
import json

from tests.hub_server.messages import Answer, Request
from tests.hub_server.read import card
from tests.hub_server.state import State
from tests.hub_server.store import LARGE, Commit, File, Repository, describe
from usbackbones._files import atomic_write

LARGE_SIZE = 10_000_000  # bytes from which the Hub wants any file in its store of large ones


def create(state: State, request: Request) -> Answer:
    """A new repository; one that is there already is a conflict, and told as one."""
    asked = request.json()
    repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
    about = {"url": f"{request.origin}/{repo_id}", "name": repo_id, "id": repo_id}
    if asked.get("type", "model") != "model":
        return Answer.refusal(400, message="This Hub has models only")
    if repo_id in state.store.repositories:
        return Answer.of({**about, "error": "You already created this model repo"}, 409)
    state.store.create(repo_id, private=bool(asked.get("private")) or asked.get("visibility") == "private")
    return Answer.of(about)


def delete(state: State, request: Request) -> Answer:
    """Remove a repository."""
    asked = request.json()
    state.store.remove(f"{asked.get('organization') or 'me'}/{asked['name']}")
    return Answer.of({})


def settings(state: State, request: Request, repository: Repository) -> Answer:
    """Who may read a repository."""
    asked = request.json()
    if "private" in asked or "visibility" in asked:
        repository.private = bool(asked.get("private")) or asked.get("visibility") == "private"
    if "gated" in asked:
        repository.gated = bool(asked["gated"])
    state.store.save(repository)
    return Answer.of({"private": repository.private, "gated": repository.gated})


def validate(state: State, request: Request) -> Answer:
    """Whether the metadata of a card are a mapping with a licence, of what the Hub checks the part that we rely on."""
    data = card(str(request.json()["content"]).encode())
    errors = [] if data.get("license") else [{"message": '"license" is required in the metadata of the card'}]
    return Answer.of({"errors": errors, "warnings": []}, 400 if errors else 200)


def preupload(state: State, request: Request, repository: Repository, commit: Commit) -> Answer:
    """Which of the files are to go to the store of large files."""
    files = []
    for asked in request.json()["files"]:
        large = asked["path"].endswith(LARGE) or asked["size"] >= LARGE_SIZE
        there = commit.files.get(asked["path"])
        mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        files.append({"path": asked["path"], **mode, "oid": there.oid if there else None})
    return Answer.of({"files": files})


def batch(state: State, request: Request, repository: Repository) -> Answer:
    """Where to put large files, each by one PUT; nothing for those that are there already."""
    objects = []
    for asked in request.json()["objects"]:
        about = {"oid": asked["oid"], "size": asked["size"]}
        if not state.store.blob(asked["oid"]).is_file():
            there = {"href": state.signed(request, f"/upload/{asked['oid']}")}
            verify = {"href": f"{request.origin}/{repository.id}.git/info/lfs/objects/verify"}
            about["actions"] = {"upload": there, "verify": verify}
        objects.append(about)
    return Answer.of({"transfer": "basic", "objects": objects})


def upload(state: State, request: Request, sha256: str) -> Answer:
    """Take the bytes of a large file, which must be those that were announced."""
    if request.query.get("key") != state.key(request.path):
        return Answer.refusal(403)
    if hashlib.sha256(request.body).hexdigest() != sha256:
        return Answer.refusal(400, message="The bytes are not those that were announced")
    with atomic_write(state.store.blob(sha256)) as stream:
        stream.write(request.body)
    return Answer()


def verify(state: State, request: Request, repository: Repository) -> Answer:
    """Whether a large file arrived."""
    asked = request.json()
    file = state.store.blob(asked["oid"])
    if not file.is_file() or file.stat().st_size != asked["size"]:
        return Answer.refusal(404, message="The large file has not arrived")
    return Answer.of({})


def commit(state: State, request: Request, repository: Repository, commit: Commit, branch: str) -> Answer:
    """Put a commit on a branch: lines of JSON, a header and then one file a line."""
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit") not in (None, commit.oid):
        return Answer.refusal(412, message="A commit has happened since. Please refresh and try again.")
    changes: dict[str, File] = {}
    removed: set[str] = set()
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            changes[value["path"]] = state.store.put(base64.b64decode(value["content"]), large=False)
        elif line["key"] == "lfsFile":
            file = state.store.blob(value["oid"])
            if not file.is_file():
                return Answer.refusal(400, message=f"{value['path']}: its bytes were never sent")
            changes[value["path"]] = describe(file.read_bytes(), large=True)
        elif line["key"] in ("deletedFile", "deletedFolder"):
            removed.add(value["path"].rstrip("/") + "/" * (line["key"] == "deletedFolder"))
    made = state.store.commit(repository.id, branch, header["summary"], changes, frozenset(removed))
    url = f"{request.origin}/{repository.id}/commit/{made.oid}"
    return Answer.of({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def branch(state: State, request: Request, repository: Repository, name: str) -> Answer:
    """A new branch, at the commit that is named or at the head."""
    if name in repository.branches:
        return Answer.refusal(409, message="This branch is there already")
    repository.branches[name] = repository.at(request.json().get("startingPoint") or "main").oid
    state.store.save(repository)
    return Answer.of({})


def tag(state: State, request: Request, repository: Repository, commit: Commit) -> Answer:
    """A new tag; as on the Hub it stays where it is."""
    name = request.json()["tag"]
    if name in repository.tags:
        return Answer.refusal(409, message="This tag is there already")
    repository.tags[name] = commit.oid
    state.store.save(repository)
    return Answer.of({})


def delete_tag(state: State, request: Request, repository: Repository, name: str) -> Answer:
    """Remove a tag."""
    if repository.tags.pop(name, None) is None:
        return Answer.refusal(404, "RevisionNotFound", "Tag not found")
    state.store.save(repository)
    return Answer.of({})
