"""Published architectures twice: in our language, and by hand in PyTorch with the same names.

The modules are written as their papers and PyTorch's users write them, and share nothing with the walk or the lowering:
``stage1.2.conv1.conv.weight`` is there what ``stage1.2.conv1.conv.w`` is here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

CONV_BN = """
  conv_bn:
    parameters: {filters: int, kernel: int = 3, stride: int = 1, groups: int = 1, activation: text = relu}
    layers:
      conv: {type: conv, filters: =filters, kernel: =kernel, stride: =stride, padding: =kernel // 2, groups: =groups,
             bias: false}
      norm: {type: batch_norm, activation: =activation}
"""


class ConvBn(nn.Module):
    def __init__(self, inputs, filters, kernel=3, stride=1, groups=1, activation=F.relu):
        super().__init__()
        self.conv = nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.activation = activation

    def forward(self, x):
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


def numbered(*modules):
    """``stage.1``, ``stage.2``, …"""
    return nn.Sequential(dict_of(modules))


def dict_of(modules):
    from collections import OrderedDict

    return OrderedDict((str(i), module) for i, module in enumerate(modules, 1))


def classified(model, x):
    """Global average pooling, then the fully connected layer ``output``."""
    return model.output(x.mean((2, 3)))


# ResNet-20 (He et al., CVPR 2016, section 4.2): shortcuts A (zeros) and B (1x1 convolutions).

RESNET20 = """
input: [32, 32, 3]
templates:{conv_bn}
  basic:
    parameters: {{filters: int, stride: int = 1}}
    block:
      type: residual
      shortcut: {shortcut}
      activation: relu
      layers:
        conv1: {{type: conv_bn, filters: =filters, stride: =stride}}
        conv2: {{type: conv_bn, filters: =filters, activation: none}}
layers:
  stem: {{type: conv_bn, filters: 16}}
  stage1: {{type: repeat, times: 3, block: {{type: basic, filters: 16}}}}
  stage2: {{type: repeat, times: 3, block: {{type: basic, filters: 32}}, first: {{stride: 2}}}}
  stage3: {{type: repeat, times: 3, block: {{type: basic, filters: 64}}, first: {{stride: 2}}}}
  pool: {{type: global_pool}}
  output: {{type: fc, units: 10, activation: softmax}}
"""


class Basic(nn.Module):
    def __init__(self, inputs, filters, stride, projection):
        super().__init__()
        self.conv1 = ConvBn(inputs, filters, stride=stride)
        self.conv2 = ConvBn(filters, filters, activation=None)
        self.extra, self.stride = filters - inputs, stride
        if projection and (stride > 1 or self.extra):
            self.shortcut = nn.Conv2d(inputs, filters, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(filters)

    def forward(self, x):
        y = self.conv2(self.conv1(x))
        if hasattr(self, "shortcut"):
            return F.relu(y + self.shortcut_norm(self.shortcut(x)))
        x = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(x, (0, 0, 0, 0, 0, self.extra)))


class ResNet20(nn.Module):
    def __init__(self, projection):
        super().__init__()
        self.stem, inputs = ConvBn(3, 16), 16
        for stage, filters in enumerate((16, 32, 64), 1):
            blocks = []
            for i in range(3):
                blocks.append(Basic(inputs, filters, 2 if stage > 1 and i == 0 else 1, projection))
                inputs = filters
            setattr(self, f"stage{stage}", numbered(*blocks))
        self.output = nn.Linear(64, 10)

    def forward(self, x):
        return classified(self, self.stage3(self.stage2(self.stage1(self.stem(x)))))


# MobileNetV2 (Sandler et al., CVPR 2018), small: inverted residuals with linear bottlenecks.

MOBILENET = """
input: [24, 24, 3]
templates:{conv_bn}
  inverted:
    parameters: {{hidden: int, filters: int, stride: int = 1}}
    layers:
      expand: {{type: conv_bn, filters: =hidden, kernel: 1, activation: relu6}}
      depthwise: {{type: conv_bn, filters: =hidden, stride: =stride, groups: =hidden, activation: relu6}}
      project: {{type: conv_bn, filters: =filters, kernel: 1, activation: none}}
  again:
    parameters: {{hidden: int, filters: int}}
    block: {{type: residual, layers: {{body: {{type: inverted, hidden: =hidden, filters: =filters}}}}}}
layers:
  stem: {{type: conv_bn, filters: 8, stride: 2, activation: relu6}}
  first: {{type: inverted, hidden: 16, filters: 6}}
  down: {{type: inverted, hidden: 36, filters: 8, stride: 2}}
  rest: {{type: repeat, times: 2, block: {{type: again, hidden: 48, filters: 8}}}}
  head: {{type: conv_bn, filters: 20, kernel: 1, activation: relu6}}
  pool: {{type: global_pool}}
  output: {{type: fc, units: 7, activation: softmax}}
"""


class Inverted(nn.Module):
    def __init__(self, inputs, hidden, filters, stride=1):
        super().__init__()
        self.expand = ConvBn(inputs, hidden, 1, activation=F.relu6)
        self.depthwise = ConvBn(hidden, hidden, 3, stride, groups=hidden, activation=F.relu6)
        self.project = ConvBn(hidden, filters, 1, activation=None)

    def forward(self, x):
        return self.project(self.depthwise(self.expand(x)))


class Again(nn.Module):
    def __init__(self, hidden, filters):
        super().__init__()
        self.body = Inverted(filters, hidden, filters)

    def forward(self, x):
        return x + self.body(x)


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBn(3, 8, stride=2, activation=F.relu6)
        self.first, self.down = Inverted(8, 16, 6), Inverted(6, 36, 8, 2)
        self.rest = numbered(Again(48, 8), Again(48, 8))
        self.head = ConvBn(8, 20, 1, activation=F.relu6)
        self.output = nn.Linear(20, 7)

    def forward(self, x):
        return classified(self, self.head(self.rest(self.down(self.first(self.stem(x))))))


# DenseNet-BC (Huang et al., CVPR 2017), small: norm, relu, 1x1, norm, relu, 3x3, next to everything before.

DENSENET = """
input: [16, 16, 3]
templates:
  grow:
    parameters: {growth: int}
    block:
      type: branches
      branches:
        old: {}
        new:
          norm1: {type: batch_norm, activation: relu}
          conv1: {type: conv, filters: =4 * growth, kernel: 1, bias: false}
          norm2: {type: batch_norm, activation: relu}
          conv2: {type: conv, filters: =growth, kernel: 3, padding: 1, bias: false}
layers:
  stem: {type: conv, filters: 8, kernel: 3, padding: 1, bias: false}
  block1: {type: repeat, times: 3, block: {type: grow, growth: 4}}
  norm1: {type: batch_norm, activation: relu}
  conv1: {type: conv, filters: 10, kernel: 1, bias: false}
  pool1: {type: pool, kernel: 2, mode: average}
  block2: {type: repeat, times: 2, block: {type: grow, growth: 4}}
  norm2: {type: batch_norm, activation: relu}
  pool: {type: global_pool}
  output: {type: fc, units: 6, activation: softmax}
"""


class Grow(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.new = nn.ModuleDict(
            {
                "norm1": nn.BatchNorm2d(inputs),
                "conv1": nn.Conv2d(inputs, 4 * growth, 1, bias=False),
                "norm2": nn.BatchNorm2d(4 * growth),
                "conv2": nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            }
        )

    def forward(self, x):
        y = self.new["conv1"](F.relu(self.new["norm1"](x)))
        return torch.cat([x, self.new["conv2"](F.relu(self.new["norm2"](y)))], 1)


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.block1 = numbered(Grow(8, 4), Grow(12, 4), Grow(16, 4))
        self.norm1, self.conv1 = nn.BatchNorm2d(20), nn.Conv2d(20, 10, 1, bias=False)
        self.block2 = numbered(Grow(10, 4), Grow(14, 4))
        self.norm2, self.output = nn.BatchNorm2d(18), nn.Linear(18, 6)

    def forward(self, x):
        x = self.conv1(F.relu(self.norm1(self.block1(self.stem(x)))))
        return classified(self, F.relu(self.norm2(self.block2(F.avg_pool2d(x, 2)))))


# An inception block (Szegedy et al., CVPR 2015).

INCEPTION = """
input: [9, 8, 4]
layers:
  mix:
    type: branches
    branches:
      one: {conv: {type: conv, filters: 3, kernel: 1, activation: relu}}
      three:
        reduce: {type: conv, filters: 4, kernel: 1, activation: relu}
        conv: {type: conv, filters: 5, kernel: 3, padding: same, activation: relu}
      five:
        reduce: {type: conv, filters: 2, kernel: 1, activation: relu}
        conv: {type: conv, filters: 3, kernel: 5, padding: same, activation: relu}
      pool:
        pool: {type: pool, kernel: 3, stride: 1, padding: same}
        conv: {type: conv, filters: 2, kernel: 1, activation: relu}
  pool: {type: global_pool}
  output: {type: fc, units: 5, activation: softmax}
"""


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.ModuleDict(
            {
                "one": nn.ModuleDict({"conv": nn.Conv2d(4, 3, 1)}),
                "three": nn.ModuleDict({"reduce": nn.Conv2d(4, 4, 1), "conv": nn.Conv2d(4, 5, 3, padding=1)}),
                "five": nn.ModuleDict({"reduce": nn.Conv2d(4, 2, 1), "conv": nn.Conv2d(2, 3, 5, padding=2)}),
                "pool": nn.ModuleDict({"conv": nn.Conv2d(4, 2, 1)}),
            }
        )
        self.output = nn.Linear(13, 5)

    def forward(self, x):
        def through(branch, y):
            for module in self.mix[branch].values():
                y = F.relu(module(y))
            return y

        pooled = F.max_pool2d(x, 3, 1, 1)
        parts = [through("one", x), through("three", x), through("five", x), through("pool", pooled)]
        return classified(self, torch.cat(parts, 1))


# Squeeze and excitation (Hu et al., CVPR 2018) around a residual body.

SQUEEZE = """
input: [8, 8, 3]
layers:
  stem: {type: conv, filters: 6, kernel: 3, padding: 1, activation: relu}
  block:
    type: residual
    activation: relu
    layers:
      conv: {type: conv, filters: 6, kernel: 3, padding: 1, bias: false}
      norm: {type: batch_norm}
      se:
        type: branches
        merge: multiply
        branches:
          picture: {}
          gate:
            squeeze: {type: global_pool}
            reduce: {type: conv, filters: 2, kernel: 1, activation: relu}
            expand: {type: conv, filters: 6, kernel: 1, activation: sigmoid}
  pool: {type: global_pool}
  output: {type: fc, units: 5, activation: softmax}
"""


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        gate = nn.ModuleDict({"reduce": nn.Conv2d(6, 2, 1), "expand": nn.Conv2d(2, 6, 1)})
        self.block = nn.ModuleDict(
            {
                "conv": nn.Conv2d(6, 6, 3, padding=1, bias=False),
                "norm": nn.BatchNorm2d(6),
                "se": nn.ModuleDict({"gate": gate}),
            }
        )
        self.output = nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        y = self.block["norm"](self.block["conv"](x))
        gate = self.block["se"]["gate"]
        scale = torch.sigmoid(gate["expand"](F.relu(gate["reduce"](F.adaptive_avg_pool2d(y, 1)))))
        return classified(self, F.relu(x + y * scale))


# A ShuffleNet unit (Zhang et al., CVPR 2018), and layers that read others by name.

SHUFFLE = """
input: [8, 8, 3]
layers:
  stem: {type: conv, filters: 12, kernel: 3, padding: 1}
  unit:
    type: residual
    activation: relu
    layers:
      reduce: {type: conv, filters: 12, kernel: 1, groups: 3, activation: relu}
      shuffle: {type: channel_shuffle, groups: 3}
      depthwise: {type: conv, filters: 12, kernel: 3, padding: 1, groups: 12}
      expand: {type: conv, filters: 12, kernel: 1, groups: 3}
  side: {type: conv, filters: 4, kernel: 1, input: stem, activation: tanh}
  both: {type: merge, inputs: [unit, side, input]}
  twice: {type: merge, inputs: [both, both], mode: multiply}
  sum: {type: merge, inputs: [both, twice, both], mode: add, activation: tanh}
  pool: {type: global_pool}
  output: {type: fc, units: 5, activation: softmax}
"""


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.unit = nn.ModuleDict(
            {
                "reduce": nn.Conv2d(12, 12, 1, groups=3),
                "depthwise": nn.Conv2d(12, 12, 3, padding=1, groups=12),
                "expand": nn.Conv2d(12, 12, 1, groups=3),
            }
        )
        self.side, self.output = nn.Conv2d(12, 4, 1), nn.Linear(19, 5)

    def forward(self, x):
        stem = self.stem(x)
        y = F.channel_shuffle(F.relu(self.unit["reduce"](stem)), 3)
        unit = F.relu(stem + self.unit["expand"](self.unit["depthwise"](y)))
        both = torch.cat([unit, torch.tanh(self.side(stem)), x], 1)
        return classified(self, torch.tanh(both + both * both + both))


NETS = {
    "resnet20 A": (RESNET20.format(conv_bn=CONV_BN, shortcut="pad"), lambda: ResNet20(projection=False)),
    "resnet20 B": (RESNET20.format(conv_bn=CONV_BN, shortcut="auto"), lambda: ResNet20(projection=True)),
    "mobilenet": (MOBILENET.format(conv_bn=CONV_BN), MobileNet),
    "densenet": (DENSENET, DenseNet),
    "inception": (INCEPTION, Inception),
    "squeeze and excite": (SQUEEZE, SqueezeExcite),
    "shuffle and references": (SHUFFLE, Shuffle),
}
