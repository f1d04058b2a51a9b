"""PyTorch's side on a GPU: a recipe's training step in float32, eager, compiled, and captured into a CUDA graph.

Imports nothing of cnnforge, like ``torch_net``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torch_engines import net_of, pictures_of
from benchmarks.torch_net import optimizer_of

#: Steps before a capture: allocations and cuDNN's choices are done then.
WARM = 5


def plain_float32() -> None:
    """No TF32, as ours has none; cuDNN measures its algorithms."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


class Step:
    """Forward, loss, backward, update. Called: one step, queued; ``loss()`` waits for that of the last one.

    form: ``eager``, ``channels_last``, ``compile`` or ``graph``; all but the first lay pictures out channels last
    """

    def __init__(self, recipe: Mapping[str, Any], arrays: Mapping[str, Any] | None, data: tuple[Any, Any], form: str):
        last = form != "eager"
        net = net_of(recipe, arrays).cuda().to(memory_format=torch.channels_last if last else torch.contiguous_format)
        variant = {"foreach": True} | ({"capturable": True} if form == "graph" and _capturable(recipe) else {})
        self._optimizer = optimizer_of(recipe["optimizer"], net, **variant)
        self._net: Any = torch.compile(net) if form == "compile" else net
        self._x, self._labels = pictures_of(data[0], last).cuda(), torch.from_numpy(data[1]).cuda()
        self._cost = nn.CrossEntropyLoss()
        self._loss = torch.zeros(())
        self._run: Callable[[], None] = self._step
        if form == "graph":
            self._run = self._captured()

    def __call__(self) -> None:
        self._run()

    def loss(self) -> float:
        return float(self._loss)

    def _step(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss: Tensor = self._cost(self._net(self._x), self._labels)
        loss.backward()
        self._optimizer.step()
        self._loss = loss.detach()

    def _captured(self) -> Callable[[], None]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay


def _capturable(recipe: Mapping[str, Any]) -> bool:
    """Optimizers that count their steps keep the count on the device then; SGD counts none."""
    return recipe["optimizer"]["type"] != "sgd"


def synchronize() -> None:
    torch.cuda.synchronize()
