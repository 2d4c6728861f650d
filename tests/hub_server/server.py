"""The network of it: listening, logging, and spoiling answers on demand."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.hub_server.api import answer_to
from tests.hub_server.faults import Fault, flipped
from tests.hub_server.messages import Answer, Request
from tests.hub_server.state import State
from tests.hub_server.store import Store


class Logged(NamedTuple):
    """A request that came in, and how it was answered; `status` is 0 when it was dropped."""

    method: str
    path: str
    authorization: str | None
    range: str | None
    status: int


class LoopbackHub:
    """A Hub on this machine: `with LoopbackHub(folder) as hub: ... hub.url ...`.

    Attributes:
        state: the repositories, and the tokens that are known.
        faults: what goes wrong from now on; the first that meets a request spoils its answer.
        log: every request since the list was cleared.
    """

    def __init__(
        self,
        folder: Path,
        members: frozenset[str] = frozenset(),
        guests: frozenset[str] = frozenset(),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.state = State(Store(folder), members, guests)
        self.host = host
        self.faults: list[Fault] = []
        self.log: list[Logged] = []
        self._port = port
        self._server: ThreadingHTTPServer | None = None
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before if it is not the first time."""
        self._stopped.clear()
        self._server = ThreadingHTTPServer((self.host, self._port), type("Handler", (_Handler,), {"hub": self}))
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, as a network that is down; what is in the store stays."""
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it is stopped, or so long."""
        self._stopped.wait(seconds)

    def __enter__(self) -> "LoopbackHub":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    """One request; every connection is closed after it, so that a stopped server is silent at once."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer a request of any method."""
        self.close_connection = True
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            unquote(parts.path),
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {name.title(): value for name, value in self.headers.items()},
            self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            f"http://{self.headers.get('Host') or self.hub.url.removeprefix('http://')}",
        )
        fault = next((fault for fault in self.hub.faults if fault.meets(f"{self.command} {request.path}")), None)
        answer = _instead(fault) if fault is not None else None
        if answer is None and (fault is None or fault.kind != "drop"):
            answer = answer_to(self.hub.state, request)
        self.hub.log.append(
            Logged(
                self.command,
                request.path,
                self.headers.get("Authorization"),
                self.headers.get("Range"),
                answer.status if answer else 0,
            )
        )
        if answer is not None:
            self.send(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def send(self, answer: Answer, fault: Fault | None) -> None:
        """Send an answer, its body spoiled if so wished; an answer without a body stalls before it begins."""
        if fault is not None and fault.kind == "stall" and self.command == "HEAD":
            self.hub.wait(fault.seconds)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        body = answer.body
        if fault is not None and fault.kind == "corrupt" and body:
            body = flipped(body, fault.at)
        if fault is not None and fault.kind in ("truncate", "stall"):
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            if fault.kind == "truncate":
                return
            self.hub.wait(fault.seconds)
            body = body[half:]
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr; the log is `LoopbackHub.log`."""


def _instead(fault: Fault) -> Answer | None:
    """What is answered in place of the truth; None if it is told, though perhaps spoiled."""
    if fault.kind == "status":
        return Answer.refusal(fault.status, fault.code)
    if fault.kind == "redirect":
        return Answer(status=302, headers={"Location": fault.to})
    if fault.kind == "page":
        return Answer(b"<html><title>Log in</title></html>", headers={"Content-Type": "text/html"})
    return None
