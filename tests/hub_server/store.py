"""The repositories: commits, branches and tags in a JSON file each, contents in a folder of blobs named by sha256."""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from usbackbones._files import atomic_write

# What the Hub puts into a new repository, and what decides which files are large.
LARGE = (".safetensors", ".bin", ".onnx", ".npz", ".pt", ".gz", ".zip")
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE).encode()


class MissingRepository(KeyError):
    """No repository of this name."""


class MissingRevision(KeyError):
    """No branch, tag or commit of this name in the repository."""


@dataclass(frozen=True)
class File:
    """A file of a commit. `oid` is git's: the SHA-1 of the blob, or of the pointer to a large file."""

    sha256: str
    size: int
    large: bool
    oid: str


@dataclass(frozen=True)
class Commit:
    """A whole state of a repository, by path."""

    oid: str
    title: str
    date: str
    files: dict[str, File]


@dataclass
class Repository:
    """A repository; `commits` are in their order."""

    id: str
    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag or 40 hex digits name.

        Raises:
            MissingRevision: none does.
        """
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise MissingRevision(revision)
        return self.commits[oid]


class Store:
    """All repositories of a folder, kept in memory and written at every change; safe among threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.repositories: dict[str, Repository] = {}
        for file in sorted((folder / "models").glob("*/*.json")):
            content = json.loads(file.read_text(encoding="utf-8"))
            for oid, commit in content["commits"].items():
                files = {path: File(**about) for path, about in commit["files"].items()}
                content["commits"][oid] = Commit(**{**commit, "files": files})
            self.repositories[content["id"]] = Repository(**content)

    def get(self, repo_id: str) -> Repository:
        """The repository of this name.

        Raises:
            MissingRepository: there is none.
        """
        if repo_id not in self.repositories:
            raise MissingRepository(repo_id)
        return self.repositories[repo_id]

    def create(self, repo_id: str, private: bool) -> Repository:
        """A new repository with the first commit that the Hub makes."""
        with self.lock:
            self.repositories[repo_id] = Repository(repo_id, private)
            self.commit(repo_id, "main", "initial commit", {".gitattributes": self.put(GITATTRIBUTES, large=False)})
            return self.repositories[repo_id]

    def put(self, content: bytes, large: bool) -> File:
        """Keep some bytes."""
        about = describe(content, large)
        if not self.blob(about.sha256).is_file():
            with atomic_write(self.blob(about.sha256)) as stream:
                stream.write(content)
        return about

    def blob(self, sha256: str) -> Path:
        """Where bytes of this sum are, or would be."""
        return self.folder / "blobs" / sha256

    def commit(
        self, repo_id: str, branch: str, title: str, changes: Mapping[str, File], removed: frozenset[str] = frozenset()
    ) -> Commit:
        """Put a commit on a branch; a removed path that ends in a slash is a folder.

        Raises:
            MissingRevision: there is no such branch.
        """
        with self.lock:
            repository = self.get(repo_id)
            parent = repository.at(branch) if repository.branches else None
            folders = tuple(path for path in removed if path.endswith("/"))
            kept = {
                path: file
                for path, file in (parent.files if parent else {}).items()
                if path not in removed and not path.startswith(folders or ("\0",))
            }
            files = {**kept, **changes}
            date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            story = [
                parent.oid if parent else "",
                title,
                date,
                len(repository.commits),
                sorted(map(str, files.items())),
            ]
            commit = Commit(hashlib.sha1(json.dumps(story).encode()).hexdigest(), title, date, files)
            repository.commits[commit.oid] = commit
            repository.branches[branch] = commit.oid
            self.save(repository)
            return commit

    def save(self, repository: Repository) -> None:
        """Write a repository after a change."""
        with self.lock, atomic_write(self._file(repository.id), "w", encoding="utf-8") as stream:
            json.dump(asdict(repository), stream)

    def remove(self, repo_id: str) -> None:
        """Forget a repository; its blobs stay, since others may have the same."""
        with self.lock:
            self.get(repo_id)
            del self.repositories[repo_id]
            self._file(repo_id).unlink()

    def _file(self, repo_id: str) -> Path:
        organisation, name = repo_id.split("/")
        return self.folder / "models" / organisation / f"{name}.json"


def describe(content: bytes, large: bool) -> File:
    """What a commit says of a file with these bytes."""
    sha256 = hashlib.sha256(content).hexdigest()
    held = pointer(sha256, len(content)) if large else content
    return File(sha256, len(content), large, hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest())


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def as_listed(path: str, file: File) -> dict[str, Any]:
    """A file as the Hub lists it in a tree."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
    if file.large:
        lfs = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer(file.sha256, file.size))}
        entry["lfs"] = lfs
    return entry
