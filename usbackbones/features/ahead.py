"""Read ahead: on a GPU a thread decodes, prepares and copies the next batches while the current one is computed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Made = TypeVar("Made")
_END = object()


def loaded(
    batches: Iterable[Item],
    read: Callable[[Item], tuple[Tensor, ...]],
    device: torch.device,
    thread: bool | None = None,
) -> Iterator[tuple[Item, tuple[Tensor, ...]]]:
    """Each batch with its tensors on a device, in order; an error comes where the plain loop would have it.

    Args:
        batches: what to read, one after the other.
        read: makes the tensors of a batch on the CPU.
        device: where they are wanted.
        thread: read ahead; by default on a GPU alone, since a CPU computes with the cores that would read.
    """
    if not (device.type == "cuda" if thread is None else thread):
        for batch in batches:
            yield batch, tuple(tensor.to(device) for tensor in read(batch))
        return

    def make(batch: Item) -> tuple[Item, tuple[Tensor, ...]]:
        tensors = read(batch)
        if device.type == "cuda":
            tensors = tuple(tensor.pin_memory() for tensor in tensors)
        return batch, tuple(tensor.to(device, non_blocking=True) for tensor in tensors)

    yield from made_ahead(batches, make, device, lambda made: made[1])


def made_ahead(
    items: Iterable[Item],
    make: Callable[[Item], Made],
    device: torch.device,
    tensors: Callable[[Made], Iterable[Tensor]],
    most: int = 2,
) -> Iterator[Made]:
    """What is made of each item, in order, by a thread and on a GPU in a stream of its own.

    Args:
        items: taken by the thread, too.
        make: called in the thread.
        device: where the tensors are made.
        tensors: those on the device of what was made.
        most: how many are made or waiting at a time, beside the one in use.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    source = iter(items)

    def following() -> tuple[object, torch.cuda.Event | None]:
        item = next(source, _END)
        if item is _END:
            return _END, None
        if stream is None:
            return make(item), None  # type: ignore[arg-type]
        with torch.cuda.stream(stream):  # also the GPU of this process: a new thread would use the first one
            return make(item), stream.record_event()  # type: ignore[arg-type]

    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(following) for _ in range(most))
        try:
            while True:
                made, ready = coming.popleft().result()
                if made is _END:
                    return
                coming.append(pool.submit(following))
                if ready:
                    now = torch.cuda.current_stream(device)
                    now.wait_event(ready)
                    for tensor in tensors(made):  # type: ignore[arg-type]
                        tensor.record_stream(now)  # or its memory could go to the next batch while it is still read
                yield made  # type: ignore[misc]
        finally:
            for future in coming:
                future.cancel()
