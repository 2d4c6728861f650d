"""What can go wrong on the way, on demand."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["status", "drop", "truncate", "corrupt", "stall", "redirect", "page"]


@dataclass
class Fault:
    """One fault of the answers to some requests.

    Attributes:
        match: shell pattern for "<method> <path>", as "GET /blob/*".
        kind: "status" answers with that status; "drop" closes the connection without an answer; "truncate" closes it
            after half of the body; "corrupt" flips a bit of the body and keeps its length; "stall" waits before the
            body is sent; "redirect" answers 302; "page" answers 200 with a web page, as a log-in page in between does.
        times: how many answers it spoils; None is all.
        status: for "status".
        code: the Hub's own error code that goes with it, as "GatedRepo".
        at: for "corrupt", which byte, from the end if negative.
        seconds: for "stall".
        to: for "redirect".
    """

    match: str
    kind: Kind
    times: int | None = None
    status: int = 503
    code: str = ""
    at: int = -1000
    seconds: float = 60
    to: str = ""

    def meets(self, request: str) -> bool:
        """Whether this request is to be spoiled; counts it."""
        if self.times == 0 or not fnmatchcase(request, self.match):
            return False
        if self.times is not None:
            self.times -= 1
        return True


def flipped(content: bytes, at: int) -> bytes:
    """The bytes with one bit of one of them changed."""
    changed = bytearray(content)
    changed[max(-len(changed), min(at, len(changed) - 1))] ^= 1
    return bytes(changed)
