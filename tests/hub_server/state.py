"""What every answer may look at: the repositories, who may see them, and where large files are."""

import hmac
import secrets
from dataclasses import dataclass, field

from tests.hub_server.messages import Answer, Request
from tests.hub_server.store import Repository, Store

OTHER_NAME = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}


@dataclass
class State:
    """The Hub without its network.

    Attributes:
        store: the repositories.
        members: tokens that may read and write everything.
        guests: tokens that are somebody's, but of nobody who has access to a private or gated repository.
    """

    store: Store
    members: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    secret: bytes = field(default_factory=secrets.token_bytes)

    def key(self, path: str) -> str:
        """What the signed address of a path at the store of large files carries."""
        return hmac.new(self.secret, path.encode(), "sha256").hexdigest()

    def signed(self, request: Request, path: str) -> str:
        """An address at the store of large files that works without a token.

        The Hub's store has an origin of its own, to which no token goes; here it is this machine's other name.
        """
        host, _, port = request.origin.removeprefix("http://").rpartition(":")
        return f"http://{OTHER_NAME.get(host, host)}:{port}{path}?key={self.key(path)}"

    def is_member(self, request: Request) -> bool:
        """Whether the token may read and write everything."""
        return _token(request) in self.members

    def stranger(self, request: Request) -> Answer | None:
        """The refusal of a token that nobody has; None for a known one, and for none at all."""
        token = _token(request)
        if token is None or token in self.members | self.guests:
            return None
        return Answer.refusal(401, message="Invalid username or password.")

    def unreadable(self, request: Request, repository: Repository) -> Answer | None:
        """The refusal to who may not read a repository: a private one does not exist to him."""
        if self.is_member(request) or not (repository.private or repository.gated):
            return None
        known = _token(request) is not None
        if repository.private:
            return Answer.refusal(404 if known else 401, "RepoNotFound", "Repository not found")
        return Answer.refusal(403 if known else 401, "GatedRepo", f"Access to model {repository.id} is restricted.")


def _token(request: Request) -> str | None:
    scheme, _, token = (request.headers.get("Authorization") or "").partition(" ")
    return token if scheme.lower() == "bearer" else None
