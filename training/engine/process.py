"""SIGTERM and SIGINT ask a run to stop; they never break a step or a write."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM and SIGINT only set a flag, so that the step in hand is finished and saved.

    Yields:
        whether one of them has come.
    """
    asked = False

    def ask(*_: Any) -> None:
        nonlocal asked
        asked = True

    earlier = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
