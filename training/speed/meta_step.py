"""A step of Meta-USCL beside a plain contrastive step and beside double backward, from the same weights."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import timm
import torch
from torch.func import functional_call

from training.data.batches.batch import Batch
from training.methods.meta_uscl import MetaUSCL, MetaUSCLNet
from training.nn.contrastive_loss import nt_xent, weighted_mean

SPEC = MetaUSCL(features="attached", symmetric=False)


class Bench:
    """A network on one thread with its optimizer, a batch, and the ways to make a step of them.

    Args:
        arch: timm's name.
        batch: training clips, and as many meta clips.
        size: of the views, pixels.
    """

    def __init__(self, arch: str, batch: int, size: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        args: dict[str, Any] = {"img_size": size, "global_pool": "avg"} if arch.startswith("vit") else {}
        backbone = timm.create_model(arch, num_classes=0, in_chans=1, **args)
        self.net = MetaUSCLNet(backbone, SPEC).to(memory_format=torch.channels_last)
        # SGD as in the paper; a step makes the momentum buffers, which only the first step of a run is without.
        self.optimizer = torch.optim.SGD(self.net.learner().parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        views, meta = torch.randn(2, 2, batch, 1, size, size)
        self.batch = Batch(views, torch.full((batch,), -1), torch.arange(batch), meta=meta)
        self.plain()
        self.state = copy.deepcopy((self.net.state_dict(), self.optimizer.state_dict()))

    def rewind(self) -> None:
        """Back to the weights and buffers of the beginning."""
        self.net.load_state_dict(self.state[0])
        self.optimizer.load_state_dict(copy.deepcopy(self.state[1]))
        self.net.zero_grad()

    def plain(self) -> None:
        """A contrastive step without weights."""
        self.optimizer.zero_grad()
        self.net.losses(self.batch)["loss"].backward()
        self.optimizer.step()

    def ours(self) -> None:
        """The step as the method has it."""
        self.optimizer.zero_grad()
        self.net.step(self.batch, nullcontext, self.optimizer)
        self.optimizer.step()

    def double_backward(self) -> None:
        """The step with a second-order graph; the released code's backward() also goes on to every other parameter."""
        net, weigher, batch = self.net, self.net.weigher, self.batch
        theta: dict[str, torch.Tensor] = {
            name: p for name, p in net.named_parameters() if not name.startswith("weigher.")
        }
        self.optimizer.zero_grad()
        weigher.zero_grad()
        representations, embeddings = functional_call(net, theta, (batch.views,))
        loss = weighted_mean(net.anchor_losses(embeddings), weigher(representations))
        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        ahead = {}
        for (name, p), gradient in zip(theta.items(), gradients, strict=True):
            buffer = self.optimizer.state[p]["momentum_buffer"]
            ahead[name] = p - 0.1 * (0.9 * buffer + gradient + 1e-4 * p)
        first, second = functional_call(net, ahead, (batch.meta,))[1]
        nt_xent(first, second, SPEC.temperature).mean().backward()
        del representations, embeddings, loss, gradients, ahead, first, second
        net.weigher_optimizer.step()
        self.optimizer.zero_grad()
        representations, embeddings = net(batch.views)
        with torch.no_grad():
            weights = weigher(representations)
        weighted_mean(net.anchor_losses(embeddings), weights).backward()
        self.optimizer.step()

    def forms(self) -> dict[str, Callable[[], None]]:
        """The ways to make a step, by name."""
        return {"ours": self.ours, "plain": self.plain, "double backward, as released": self.double_backward}
