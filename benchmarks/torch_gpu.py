"""PyTorch's side on a GPU: a recipe's training step, eager, compiled, and captured into a CUDA graph.

Imports nothing of cnnforge, like ``torch_net``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torch_engines import net_of, pictures_of
from benchmarks.torch_net import optimizer_of

#: Steps before a capture: allocations and cuDNN's choices are done then.
WARM = 5


def products(precision: str) -> None:
    """TF32 only where it is asked for; cuDNN measures its algorithms."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


class Step:
    """Forward, loss, backward, update. Called: one step, queued; ``loss()`` waits for that of the last one.

    form: ``eager``, ``channels_last``, ``compile`` or ``graph``; all but the first lay pictures out channels last
    precision: ``float32``, ``tf32``, or ``bfloat16``, which is autocast
    device: where; a CUDA graph needs ``cuda``
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        arrays: Mapping[str, Any] | None,
        data: tuple[Any, Any],
        form: str,
        precision: str = "float32",
        device: str = "cuda",
    ) -> None:
        products(precision)
        last = form != "eager"
        net = net_of(recipe, arrays).to(device, memory_format=torch.channels_last if last else torch.contiguous_format)
        variant = {"foreach": True} | ({"capturable": True} if form == "graph" and _capturable(recipe) else {})
        self._optimizer = optimizer_of(recipe["optimizer"], net, **variant)
        self._net: Any = torch.compile(net) if form == "compile" else net
        self._x, self._labels = pictures_of(data[0], last).to(device), torch.from_numpy(data[1]).to(device)
        self._cost = nn.CrossEntropyLoss()
        self._device, self._precision, self._whole = device, precision, form == "graph"
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
        with self._cast():
            loss: Tensor = self._cost(self._net(self._x), self._labels)
        loss.backward()
        self._optimizer.step()
        self._loss = loss.detach()

    def _cast(self) -> AbstractContextManager[Any]:
        if self._precision != "bfloat16":
            return nullcontext()
        # Weights that are cast once and kept would be those of the capture for ever.
        return torch.autocast(self._device, torch.bfloat16, cache_enabled=not self._whole)

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
