"""The random numbers of layers (initialisation, dropout, drop path): seeded, kept and put back.

Sampling and views have none of this: their generators are made from the seed and the step, see
`training.data.batches.sampling`.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

TorchState = tuple[Tensor, ...]  # of the CPU's generator, and of the GPU's where there is one


def seed_everything(seed: int) -> None:
    """Seed every generator that a layer's initialisation or dropout could use."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - timm's layers may use the global generator
    torch.manual_seed(seed)


def seed_of_process(seed: int, process: int) -> int:
    """A seed for each of several processes; process 0 keeps the run's own."""
    return int(np.random.SeedSequence([seed, process]).generate_state(1)[0]) if process else seed


def capture(device: torch.device) -> str:
    """The state of Python's, numpy's and torch's generators, and of the device's, as JSON."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    state = {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": [part.numpy().tobytes().hex() for part in torch_state(device)],
    }
    return json.dumps(state)


def restore(captured: str, device: torch.device) -> None:
    """Put the generators back where `capture` found them."""
    state = json.loads(captured)
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    parts = (torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8) for text in state["torch"])
    _set_torch_state(tuple(parts), device)


def torch_state(device: torch.device) -> TorchState:
    """The state of torch's generators, for `replayed`."""
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (cpu,)


@contextmanager
def replayed(state: TorchState, device: torch.device) -> Iterator[None]:
    """Within the block torch draws what it drew after `state`; afterwards it goes on where it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        _set_torch_state(state, device)
        yield


def _set_torch_state(state: TorchState, device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)
