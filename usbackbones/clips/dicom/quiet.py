"""Silence around pydicom: its warnings and its log quote what they complain about, which may be a patient's name."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle")
_lock = threading.Lock()
_inside = 0  # how many threads are within; the first shuts the door, the last opens it
_undo = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of pydicom and its codecs reaches a log or a warning filter while this is open.

    Both are states of the whole process, so keep the block short, and never yield from within it.

    Raises:
        ValueError: without a text, in the place of pydicom's own errors, which have no common base.
    """
    global _inside
    from pydicom.errors import BytesLengthException, InvalidDicomError

    with _lock:
        _inside += 1
        if _inside == 1:
            _shut()
    try:
        yield
    except (BytesLengthException, InvalidDicomError):
        raise ValueError from None
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _undo.close()


def _shut() -> None:
    _undo.enter_context(warnings.catch_warnings(action="ignore"))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        _undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)  # children without a level of their own follow
