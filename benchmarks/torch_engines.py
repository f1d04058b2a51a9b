"""PyTorch's side: training steps and inference of a recipe's net, in every form that may be the fastest.

Imports nothing of cnnforge, like ``torch_net``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.torch_net import Net, optimizer_of

Recipe = Mapping[str, Any]
#: Tries of each form that an optimizer or net can take, before the fastest is chosen.
TRIALS = 20


def net_of(recipe: Recipe, arrays: Mapping[str, Any] | None = None) -> Net:
    """The net, with these weights and statistics where they are given (see ``recipe.torch_arrays``)."""
    net = Net(recipe["rows"])
    if arrays is not None:
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        counters = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
        net.load_state_dict(tensors | counters, strict=True)
    return net


def pictures_of(x: Any, channels_last: bool) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W), laid out one way or the other."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)


class TrainingStep:
    """Forward, loss, backward, update. Called: one step, which returns the loss as a tensor.

    channels_last: layout of pictures and weights;  compiled: by torch.compile;  bfloat16: autocast
    variant: the form of the optimizer (see ``fastest_optimizer``)
    """

    def __init__(
        self,
        recipe: Recipe,
        arrays: Mapping[str, Any] | None,
        data: tuple[Any, Any],
        variant: Mapping[str, bool],
        *,
        channels_last: bool = False,
        compiled: bool = False,
        bfloat16: bool = False,
    ) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        net = net_of(recipe, arrays).to(memory_format=layout)
        self._optimizer = optimizer_of(recipe["optimizer"], net, **variant)
        self._net = torch.compile(net) if compiled else net
        self._x, self._labels = pictures_of(data[0], channels_last), torch.from_numpy(data[1])
        self._loss = nn.CrossEntropyLoss()
        self._bfloat16 = bfloat16

    def __call__(self) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if self._bfloat16 else nullcontext():
            loss = self._loss(self._net(self._x), self._labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


def fastest_optimizer(recipe: Recipe, data: tuple[Any, Any]) -> dict[str, bool]:
    """The form in which PyTorch's optimizer takes the least time for this net: tensor by tensor, foreach, or fused."""
    net = Net(recipe["rows"])
    nn.CrossEntropyLoss()(net(pictures_of(data[0][:4], False)), torch.from_numpy(data[1][:4])).backward()
    forms: list[tuple[dict[str, bool], torch.optim.Optimizer]] = []
    for variant in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        try:
            forms.append((variant, optimizer_of(recipe["optimizer"], net, **variant)))
        except (RuntimeError, TypeError):  # not every optimizer comes fused
            continue
    times: list[float] = [float("inf")] * len(forms)
    for trial in range(TRIALS):
        for i, (_, optimizer) in enumerate(forms):
            began = perf_counter()
            optimizer.step()
            if trial > 1:  # the first ones make the slots
                times[i] = min(times[i], perf_counter() - began)
    return forms[times.index(min(times))][0]


def faster(engines: Iterable[Callable[[], Any]]) -> Callable[[], Any]:
    """The engine with the smallest time of a few, in turn."""
    tried = list(engines)
    times = [float("inf")] * len(tried)
    for trial in range(TRIALS // 2):
        for i, engine in enumerate(tried):
            began = perf_counter()
            engine()
            if trial > 2:  # the first ones prepare
                times[i] = min(times[i], perf_counter() - began)
    return tried[times.index(min(times))]


class Compiler:
    """torch.compile, as long as it works here."""

    def __init__(self) -> None:
        self.missing: str | None = None
        if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
            self.missing = "torch.compile: left out, there is no C++ compiler (g++, clang++ or $CXX)"

    def first_steps(self, makers: Mapping[str, Callable[[], Callable[[], Any]]]) -> Iterator[tuple[str, Any, Any]]:
        """Build engines and take the first step of each: (name, engine, what it gave); nothing where that fails."""
        if self.missing is None:
            torch.compiler.reset()  # or the eighth net would run uncompiled without a word
        for name, make in makers.items():
            if self.missing is not None:
                return
            try:
                engine = make()
                yield name, engine, engine()
            except Exception as error:  # whatever its many parts raise
                self.missing = f"torch.compile: left out, {type(error).__name__}: {str(error).strip().splitlines()[0]}"


class Inference:
    """Class probabilities of one batch, without gradients. Called: one batch, (N, classes).

    form: ``eager``; ``frozen`` (torch.jit.trace and freeze, which folds norms into convolutions); ``optimized`` (and
        optimize_for_inference, which picks layouts); ``compiled``
    """

    def __init__(
        self,
        recipe: Recipe,
        arrays: Mapping[str, Any] | None,
        x: Any,
        *,
        channels_last: bool = False,
        form: str = "eager",
        bfloat16: bool = False,
    ) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        net: Any = nn.Sequential(net_of(recipe, arrays), nn.Softmax(1)).eval().to(memory_format=layout)
        self._x = pictures_of(x, channels_last)
        self._bfloat16 = bfloat16
        if form in ("frozen", "optimized"):
            with torch.no_grad():
                net = torch.jit.freeze(torch.jit.trace(net, self._x))
            net = torch.jit.optimize_for_inference(net) if form == "optimized" else net
        elif form == "compiled":
            net = torch.compile(net)
        self._net = net

    def __call__(self) -> Tensor:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16) if self._bfloat16 else nullcontext(),
        ):
            return self._net(self._x)
