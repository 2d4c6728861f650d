"""What comes in and what goes out, apart from how it travels."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class Request:
    """What an answer depends on.

    Attributes:
        headers: by their names in the form "Content-Type".
        origin: the address that the client used for the Hub, as http://127.0.0.1:8480.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Answer:
    """A status, headers and a body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(content: Any, status: int = 200, **headers: str) -> "Answer":
        """An answer in JSON."""
        return Answer(json.dumps(content).encode(), status, {"Content-Type": "application/json", **headers})

    @staticmethod
    def refusal(status: int, code: str = "", message: str = "", **headers: str) -> "Answer":
        """An error as the Hub words it."""
        told = message or HTTPStatus(status).phrase
        extra = {"X-Error-Message": told, **({"X-Error-Code": code} if code else {}), **headers}
        return Answer(json.dumps({"error": told}).encode(), status, {"Content-Type": "application/json", **extra})
