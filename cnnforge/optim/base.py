"""What an optimizer is: its fields (PyTorch's names and defaults), its slots, its nodes over the flat buffers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import StringConstraints, model_validator

from cnnforge.errors import ConfigError, Path, closest
from cnnforge.fields import Bool, NonNegativeFloat, PositiveFloat, Spec
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape

#: Names of parameters, with ``*``, ``?`` and ``[...]`` as in a shell.
Pattern = Annotated[str, StringConstraints(min_length=1)]


class ParameterGroup(Spec):
    """Parameters that are trained otherwise than the rest, or not at all.

    match: their names, with ``*``, ``?`` and ``[...]`` as in a shell: ``conv1.*``, ``*.b``
    lr: the factor on the optimizer's learning rate
    weight_decay: instead of the optimizer's
    frozen: keeps them as they begin; no gradient of theirs is computed. A norm's running
            statistics go on following the batches, as in PyTorch
    """

    match: Pattern
    lr: PositiveFloat = 1.0
    weight_decay: NonNegativeFloat | None = None
    frozen: Bool = False


class Clip(Spec):
    """``clip:`` how large a gradient may be; one of the two.

    norm: the mean gradient of all parameters together is scaled down to this length where it is longer
    value: each of its numbers is cut off at plus and minus this
    """

    norm: PositiveFloat | None = None
    value: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Clip:
        if (self.norm is None) == (self.value is None):
            raise ValueError("clip takes either norm or value")
        return self

    def lower(self, g: Graph, grads: Value) -> None:
        """Append what does it, in place, to the sums in ``grads``; with ``norm`` its length is the output
        ``grad_norm``.
        """
        if self.value is not None:
            g.node("clip_value", (grads, g.step()), (grads,), most=self.value)
            return
        length = g.outputs["grad_norm"] = g.value("grad_norm", (1,), "act")
        g.node("clip_norm", (grads, g.step()), (grads, length), most=self.norm)


class Optimizer(Spec):
    """Base of every optimizer.

    Every update reads the gradient *sums* over the batch and scales them once by 1/n (``inv_n`` in the step block).

    lr: the learning rate, which the schedule multiplies
    weight_decay: how strongly weights are pulled towards 0
    decay: ``weights`` leaves out biases and what has one number per channel, as norms have; ``all`` as PyTorch
    clip: how large a gradient may be
    groups: parameters by name with rates of their own; where several fit one, the last counts
    """

    type: str
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    decay: Literal["all", "weights"] = "all"
    clip: Clip | None = None
    groups: tuple[ParameterGroup, ...] = ()

    def _group(self, name: str) -> ParameterGroup | None:
        return next((group for group in reversed(self.groups) if fnmatchcase(name, group.match)), None)

    def freezes(self, name: str) -> bool:
        """Does the parameter belong to a group that is not trained?"""
        group = self._group(name)
        return group is not None and group.frozen

    def rates(self, name: str, vector: bool) -> tuple[float, float]:
        """(factor on the learning rate, weight decay) of a parameter; a group's own decay counts for vectors too."""
        group = self._group(name)
        decay = 0.0 if vector and self.decay == "weights" else self.weight_decay
        if group is None:
            return 1.0, decay
        return group.lr, decay if group.weight_decay is None else group.weight_decay

    def rule(self, name: str, vector: bool) -> Optimizer:
        """What updates a parameter: this optimizer, or another that it leaves it to, with the same ``groups``.

        The schedule multiplies the other's ``lr`` too; ``scalars`` have to be right for both.
        """
        return self

    def patterns(self) -> Iterator[tuple[str, Path]]:
        """Each name pattern among the fields, and its place in the config."""
        for i, group in enumerate(self.groups):
            yield group.match, ("optimizer", "groups", i, "match")

    def mistakes(self, names: Collection[str], trainable: Collection[str]) -> list[ConfigError]:
        """Patterns that fit none of a model's parameters, and groups that leave nothing to train."""
        wrong = []
        for pattern, path in self.patterns():
            if not any(fnmatchcase(name, pattern) for name in names):
                near = closest(pattern, [*names, *(name.rsplit(".", 1)[0] + ".*" for name in names)])
                wrong.append(
                    ConfigError(
                        f"optimizer: no parameter is called {pattern}",
                        path=path,
                        why="a pattern that fits nothing changes nothing",
                        fix=f"did you mean '{near}'?" if near else f"a name such as {', '.join([*names][:3])}",
                    )
                )
        if not wrong and trainable and all(self.freezes(name) for name in trainable):
            wrong.append(
                ConfigError(
                    "optimizer: its groups freeze every parameter",
                    path=("optimizer", "groups"),
                    why="there is nothing left to train",
                    fix="frozen: true for fewer of them",
                )
            )
        return wrong

    def slots(self) -> tuple[str, ...]:
        """Names of what lives from step to step, as large as the parameters that this optimizer itself updates."""
        return ()

    def scalars(self, step: int) -> tuple[float, float]:
        """(c1, c2) of the step block at update number ``step`` (from 1)."""
        return 0.0, 0.0

    def attrs(self) -> dict[str, object]:
        """The constants that the kernel needs."""
        raise NotImplementedError

    def tensors(self, shapes: Sequence[Shape]) -> dict[str, object]:
        """What the kernel needs to know of the tensors of its range, which have these shapes in this order."""
        return {}

    def lower(self, g: Graph, params: Value, grads: Value, slots: tuple[Value, ...], **rate: float) -> None:
        """Append the update of one range: (params, grads, step, slots…) -> (params, slots…), all flat, in place.

        rate: as ``rate=``, the factor on the learning rate, where it is not 1
        """
        shapes = [g.params[name].value.shape for name in g.flat[params].names]
        attrs = self.attrs() | self.tensors(shapes) | rate
        g.node(self.type, (params, grads, g.step(), *slots), (params, *slots), **attrs)
