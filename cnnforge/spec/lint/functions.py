"""What layers compute together: activations that are missing, too many, or in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator

from cnnforge.blocks.activation import Activation
from cnnforge.blocks.base import Block
from cnnforge.blocks.batch_norm import BatchNorm
from cnnforge.blocks.composite import Branches, Residual
from cnnforge.blocks.conv import Conv
from cnnforge.blocks.conv_transpose import ConvTranspose
from cnnforge.blocks.dropout import Dropout, SpatialDropout
from cnnforge.blocks.fc import Fc, Flatten
from cnnforge.blocks.merge import ChannelShuffle, Merge, ShortcutPad
from cnnforge.blocks.pool import GlobalPool, Pool
from cnnforge.shapes import count, pair
from cnnforge.spec.layers import LAYERS, MODEL_INPUT_ROW, Row, ending
from cnnforge.spec.lint.net import Finding, Net

#: What is left of scores by functions that the softmax or sigmoid of the output should not find before it.
LEAVES = {
    "relu": "values from 0 up",
    "relu6": "values from 0 to 6",
    "softplus": "values from 0 up",
    "gelu": "values from -0.17 up",
    "silu": "values from -0.28 up",
    "hard_swish": "values from -0.38 up",
    "tanh": "values between -1 and 1",
    "sigmoid": "values between 0 and 1",
    "hard_sigmoid": "values between 0 and 1",
    "softmax": "values between 0 and 1",
}


def linear_network(net: Net) -> Iterator[Finding]:
    """A classifier of several weighted layers without any activation before its output."""
    rows = net.rows
    weighted = [row for row in rows if row.macs and not row.block.frozen]
    if len(weighted) < 2 or net.run.model.last_activation not in ("softmax", "sigmoid"):
        return
    before = rows[:-1] if ending(rows[-1].block) != "none" and isinstance(rows[-1].block, Activation) else rows
    for row in before:
        if not _known_linear(row.block) or (row is not rows[-1] and ending(row.block) != "none"):
            return
    yield Finding(
        "the network is linear: no layer has an activation before the output",
        LAYERS,
        f"its {len(weighted)} layers with weights compute no more than a single fc could",
        f"an activation behind {weighted[0].name}"
        + (", and behind the others but the last" if len(weighted) > 2 else ""),
    )


def _known_linear(block: Block) -> bool:
    if isinstance(block, Branches):
        return block.merge != "multiply"
    if isinstance(block, Merge):
        return block.mode != "multiply"
    return averages(block) or isinstance(block, Conv | Fc | BatchNorm | Residual | ShortcutPad | ChannelShuffle)


def linear_pair(net: Net) -> Iterator[Finding]:
    """A conv or fc without an activation whose output reaches only conv or fc layers: together they compute no more
    than one linear layer does. Not said of pairs that are split on purpose: grouped and depthwise convolutions, 1xN and
    Nx1 kernels, bottlenecks with fewer channels than before and after, frozen weights; nor of what reaches a norm, a
    sum or a concatenation first, as the linear bottlenecks of MobileNetV2 do.
    """
    if any(linear_network(net)):
        return
    for number, row in net.numbered():
        if not _plainly_linear(row) or ending(row.block) != "none":
            continue
        behind = net.next(number, averages)
        if behind and all(_plainly_linear(other) and not _bottleneck(row, other) for other in behind):
            yield Finding(
                f"{row.name}: nothing but linear layers up to {behind[0].name}",
                row.path,
                "two linear layers in a row compute no more than one does",
                f"activation: relu in {row.name}",
            )


def _plainly_linear(row: Row) -> bool:
    """A conv or fc as people write them when they stack layers."""
    block = row.block
    if not isinstance(block, Conv | Fc) or block.frozen:
        return False
    if isinstance(block, Fc):
        return True
    kernel = pair(block.kernel)
    return block.groups == 1 and kernel[0] == kernel[1]


def _bottleneck(first: Row, second: Row) -> bool:
    """Does the pair save parameters by fewer channels in between?"""
    same = first.type == second.type
    return first.output[-1] < (min(first.input[-1], second.output[-1]) if same else first.input[-1])


def bias_before_norm(net: Net) -> Iterator[Finding]:
    """The bias of a conv, conv_transpose or fc that only batch_norm reads, which subtracts it with the mean."""
    for number, row in net.numbered():
        block, readers = row.block, [net.rows[reader] for reader in net.readers[number]]
        if (
            not isinstance(block, Conv | ConvTranspose | Fc)
            or not block.bias
            or block.activation != "none"
            or not readers
        ):
            continue
        if all(isinstance(reader.block, BatchNorm) for reader in readers):
            yield Finding(
                f"{row.name}: its bias changes nothing before batch_norm",
                row.path,
                f"{readers[0].name} subtracts each channel's mean, and {count(row.params['b'].shape):,} biases with it",
                "bias: false",
            )


def dropout_before_norm(net: Net) -> Iterator[Finding]:
    """Dropout right before batch_norm: it raises the variance in training only, and batch_norm keeps that variance for
    use (Li et al., CVPR 2019).
    """
    for number, row in net.numbered():
        if not isinstance(row.block, Dropout | SpatialDropout) or not row.block.rate:
            continue
        behind = net.next(number, _element_wise_or_pool)
        norm = next((other for other in behind if isinstance(other.block, BatchNorm)), None)
        if norm is not None:
            yield Finding(
                f"{row.name}: dropout before {norm.name}",
                row.path,
                "dropout raises the variance in training only, and batch_norm keeps that variance for use (Li et al., "
                "CVPR 2019)",
                f"{row.name} behind {norm.name}, best behind the last batch_norm",
            )


def _element_wise_or_pool(block: Block) -> bool:
    return reshapes(block) or isinstance(block, Activation | Pool | GlobalPool)


def softmax_twice(net: Net) -> Iterator[Finding]:
    """An activation softmax of what is a softmax already."""
    for number, row in net.numbered():
        if ending(row.block) != "softmax":
            continue
        for other in net.next(number, reshapes):
            if isinstance(other.block, Activation) and other.block.function == "softmax":
                classes = row.output[-1]
                most = 2.718281828 / (2.718281828 + classes - 1)
                yield Finding(
                    f"{other.name}: softmax of a softmax",
                    other.path,
                    f"{row.name} gives probabilities already; of them, no softmax over {classes} is above {most:.0%}",
                    f"leave {other.name} out",
                )


def softmax_inside(net: Net) -> Iterator[Finding]:
    """A softmax that feeds a conv or fc. As a weight in a product (attention) it is not meant here."""
    for number, row in net.numbered():
        weighted = [other for other in net.next(number, reshapes) if isinstance(other.block, Conv | Fc)]
        if ending(row.block) == "softmax" and weighted:
            yield Finding(
                f"{row.name}: softmax inside the network",
                row.path,
                f"its outputs sum to 1 over all {row.output[-1]} channels, which leaves little for {weighted[0].name} "
                "to tell apart",
                f"activation: relu; softmax belongs behind the last layer (output: {net.rows[-1].name})",
            )


def activation_before_output(net: Net) -> Iterator[Finding]:
    """Another activation before the softmax or sigmoid of the output, or one that the stated loss does not expect.
    Scores may be of any sign and size. What a pool averages first (SqueezeNet, Network in Network) is not meant.
    """
    rows, loss = net.rows, net.run.model.effective_loss
    last, function = rows[-1], net.run.model.last_activation
    if loss.fuses is not None and function != loss.fuses and function in LEAVES:
        yield Finding(
            f"{last.name}: {function} before {loss.type}",
            last.path,
            f"{loss.type} puts a {loss.fuses} over its scores itself; {function} leaves them {LEAVES[function]}",
            f"activation: {loss.fuses}",
        )
    if not isinstance(last.block, Activation) or function not in ("softmax", "sigmoid"):
        return
    number = last.reads[0]
    while number != MODEL_INPUT_ROW and reshapes(rows[number].block):
        number = rows[number].reads[0]
    before = ending(rows[number].block) if number != MODEL_INPUT_ROW else "none"
    if before in LEAVES and (before, function) != ("softmax", "softmax"):
        yield Finding(
            f"{rows[number].name}: {before} before the {function} of the output",
            rows[number].path,
            f"{function} takes scores of any sign and size; {before} leaves them {LEAVES[before]}",
            f"leave {rows[number].name} out" if rows[number].type == "activation" else "activation: none",
        )


def reshapes(block: Block) -> bool:
    return isinstance(block, Flatten | Dropout | SpatialDropout)


def averages(block: Block) -> bool:
    return reshapes(block) or (isinstance(block, Pool | GlobalPool) and block.mode == "average")
