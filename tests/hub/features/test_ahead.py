"""Reading ahead gives what the plain loop gives: the same batches in the same order, and errors at their place."""

import threading

import numpy as np
import pytest
import timm
import torch

from usbackbones.features.ahead import loaded, made_ahead
from usbackbones.features.extract import embed

CPU = torch.device("cpu")


def tensors(number):
    return torch.full((2, 3), number), torch.arange(number)


def test_the_same_batches_in_the_same_order():
    plain, ahead = (list(loaded(range(20), tensors, CPU, thread=thread)) for thread in (False, True))
    assert [batch for batch, _ in ahead] == list(range(20))
    for (one, ours), (other, theirs) in zip(plain, ahead, strict=True):
        assert one == other and all(a.equal(b) for a, b in zip(ours, theirs, strict=True))
    assert list(loaded([], tensors, CPU, thread=True)) == []


def test_a_cpu_reads_in_the_loop_itself_and_a_thread_elsewhere():
    def read(_):
        return (torch.tensor(threading.get_ident()),)

    here = threading.get_ident()
    assert {int(ident) for _, (ident,) in loaded(range(3), read, CPU)} == {here}
    others = {int(ident) for _, (ident,) in loaded(range(3), read, CPU, thread=True)}
    assert len(others) == 1 and here not in others


@pytest.mark.parametrize("where", ["source", "read"])
@pytest.mark.parametrize("thread", [False, True])
def test_an_error_comes_after_the_batches_before_it(thread, where):
    def source():
        yield from range(4)
        if where == "source":
            raise OSError("the disk has gone")
        yield 4

    def read(number):
        if number == 4:
            raise OSError("the disk has gone")
        return tensors(number)

    seen = []
    with pytest.raises(OSError, match="the disk has gone"):
        seen.extend(batch for batch, _ in loaded(source(), read, CPU, thread=thread))
    assert seen == [0, 1, 2, 3]


def test_no_more_is_read_than_may_wait_and_nothing_after_the_end():
    """A source that counts, and a reader that stops in the middle: its file can be closed then."""
    taken, closed = [], []

    def source():
        try:
            for number in range(1000):
                taken.append(number)
                yield number
        finally:
            closed.append(True)

    items = source()
    found = made_ahead(items, lambda number: number, CPU, lambda _: (), most=3)
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(taken) <= 5 + 3
    found.close()
    count = len(taken)
    assert count <= 8
    items.close()  # no thread is in it any more
    assert closed == [True] and len(taken) == count


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_of_the_cpu(gpu):
    """Large enough for a copy that is still going on when the batch is used."""
    batches = [torch.rand(64, 3, 224, 224) for _ in range(6)]
    for batch, (copied,) in loaded(batches, lambda batch: (batch,), gpu):
        assert copied.device.type == "cuda" and (copied * 2).cpu().equal(batch * 2)


@pytest.mark.gpu
def test_features_on_a_gpu_are_those_of_the_cpu(gpu):
    frames = np.random.default_rng(0).integers(0, 256, (50, 64, 64), dtype=np.uint8)
    model = timm.create_model("test_resnet", num_classes=0, in_chans=1).eval()
    wanted = embed(model, frames, batch_size=8)
    # cuDNN's convolutions compute in TF32, of ten bits.
    np.testing.assert_allclose(embed(model.to(gpu), frames, batch_size=8), wanted, atol=1e-2 * np.abs(wanted).max())
