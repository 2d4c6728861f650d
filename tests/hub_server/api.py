"""Which request is answered by what, and who may ask it."""

import re
from collections.abc import Callable
from typing import NamedTuple

from tests.hub_server import read, write
from tests.hub_server.messages import Answer, Request
from tests.hub_server.state import State
from tests.hub_server.store import MissingRepository, MissingRevision

_REPO = r"(?P<repo>[^/]+/[^/]+)"
_API = rf"/api/models/{_REPO}"


class Route(NamedTuple):
    """A kind of request. A path with `repo` gives the repository to the answer, one with `rev` also the commit."""

    method: str
    path: str
    answer: Callable[..., Answer]
    writes: bool = False


def _whoami(state: State, request: Request) -> Answer:
    return Answer.of({"type": "user", "name": "me", "orgs": [], "auth": {"accessToken": {"role": "write"}}})


def _harnesses(state: State, request: Request) -> Answer:
    return Answer.of({"harnesses": []})  # huggingface_hub 2 asks once a day which programs are to be told apart


ROUTES = (
    Route("GET", "/api/whoami-v2", _whoami, writes=True),
    Route("GET", "/api/agent-harnesses", _harnesses),
    Route("GET", "/api/models", read.listing),
    Route("GET", _API, read.info),
    Route("GET", rf"{_API}/revision/(?P<rev>.+)", read.info),
    Route("GET", rf"{_API}/tree/(?P<rev>[^/]+)/?(?P<folder>.*)", read.tree),
    Route("GET", rf"{_API}/refs", read.refs),
    Route("GET", rf"{_API}/commits/(?P<rev>.+)", read.history),
    Route("POST", rf"{_API}/paths-info/(?P<rev>.+)", read.paths_info),
    Route("GET", rf"/{_REPO}/(resolve|raw)/(?P<rev>[^/]+)/(?P<path>.+)", read.resolve),
    Route("POST", "/api/validate-yaml", write.validate),
    Route("POST", "/api/repos/create", write.create, writes=True),
    Route("DELETE", "/api/repos/delete", write.delete, writes=True),
    Route("PUT", rf"{_API}/settings", write.settings, writes=True),
    Route("POST", rf"{_API}/preupload/(?P<rev>.+)", write.preupload, writes=True),
    Route("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", write.batch, writes=True),
    Route("POST", rf"/{_REPO}\.git/info/lfs/objects/verify", write.verify, writes=True),
    Route("POST", rf"{_API}/commit/(?P<rev>(?P<branch>.+))", write.commit, writes=True),
    Route("POST", rf"{_API}/branch/(?P<name>.+)", write.branch, writes=True),
    Route("POST", rf"{_API}/tag/(?P<rev>.+)", write.tag, writes=True),
    Route("DELETE", rf"{_API}/tag/(?P<name>.+)", write.delete_tag, writes=True),
    # The store of large files: a signed address is the only key.
    Route("GET", r"/blob/(?P<sha256>[0-9a-f]{64})", read.blob),
    Route("PUT", r"/upload/(?P<sha256>[0-9a-f]{64})", write.upload),
)


def answer_to(state: State, request: Request) -> Answer:
    """The answer to a request, or the refusal that the Hub would give."""
    method = "GET" if request.method == "HEAD" else request.method
    for route in ROUTES:
        matched = re.fullmatch(route.path, request.path) if route.method == method else None
        if matched is not None:
            break
    else:
        return Answer.refusal(404)
    parts = matched.groupdict()
    if refusal := state.stranger(request):
        return refusal
    if route.writes and not state.is_member(request):
        return Answer.refusal(401)
    try:
        if "repo" in parts:
            parts["repository"] = repository = state.store.get(parts.pop("repo"))
            if refusal := state.unreadable(request, repository):
                return refusal
            if "rev" in parts:
                parts["commit"] = repository.at(parts.pop("rev"))
            elif route.answer is read.info:
                parts["commit"] = repository.at("main")
        return route.answer(state, request, **parts)
    except MissingRepository:
        # Who is nobody is not told whether it exists.
        known = request.headers.get("Authorization") is not None
        return Answer.refusal(404 if known else 401, "RepoNotFound", "Repository not found")
    except MissingRevision as error:
        return Answer.refusal(404, "RevisionNotFound", f"Invalid rev id: {error.args[0]}")
