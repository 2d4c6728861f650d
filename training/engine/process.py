"""Process settings of a run: to be stopped between two steps, to compute the same bits, and to keep freed memory."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from training.errors import TrainingError

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # names of glibc's mallopt
_MOST = 2**31 - 1  # bytes; it takes an int


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM and SIGINT only set a flag, so that they never break a step or a write.

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


@contextmanager
def same_bits(device: torch.device, on: bool) -> Iterator[None]:
    """Within the block a GPU gives the same bits every time, where `on`, at the cost of some speed; a CPU always does.

    Raises:
        TrainingError: if an operator has no deterministic form.
    """
    if not on or device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    earlier = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    flags = cudnn.deterministic, cudnn.benchmark, cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
    try:
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark = True, False
        cuda.enable_mem_efficient_sdp(False)  # attention whose backward pass only warns; flash and plain ones are left
        cuda.enable_cudnn_sdp(False)
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise TrainingError(f"--deterministic: {str(error).partition('. ')[0]}; leave --deterministic out") from error
    finally:
        torch.use_deterministic_algorithms(earlier[0], warn_only=earlier[1])
        cudnn.deterministic, cudnn.benchmark = flags[:2]
        cuda.enable_mem_efficient_sdp(flags[2])
        cuda.enable_cudnn_sdp(flags[3])


def keep_pages() -> bool:
    """Tell glibc malloc to reuse freed memory between training steps; whether the C library is glibc.

    A training step on a CPU frees and allocates the same large tensors. By default glibc maps each again, and the
    system fills every page of it with zeros when it is touched: 262,000 page faults in a step of a ResNet-18 on 64
    views of 224 px, a sixth of its time. A process that keeps its pages holds about a tenth more memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, _MOST))
