"""torchvision's nets written by hand from their published structure, so that state_dicts have its names and layouts."""

import torch
from torch import nn


class ConvBN(nn.Sequential):
    """Conv2dNormActivation: ``0`` the convolution, ``1`` the norm."""

    def __init__(self, c, f, k=1, s=1, groups=1, act=nn.ReLU6):
        layers = [nn.Conv2d(c, f, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(f)]
        super().__init__(*layers, *([act()] if act else []))


class Basic(nn.Module):
    def __init__(self, c, f, s):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, f, 3, s, 1, bias=False), nn.BatchNorm2d(f)
        self.conv2, self.bn2 = nn.Conv2d(f, f, 3, 1, 1, bias=False), nn.BatchNorm2d(f)
        self.downsample = ConvBN(c, f, 1, s, act=None) if s > 1 or c != f else None

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    def __init__(self, c, f, s):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, f, 1, bias=False), nn.BatchNorm2d(f)
        self.conv2, self.bn2 = nn.Conv2d(f, f, 3, s, 1, bias=False), nn.BatchNorm2d(f)
        self.conv3, self.bn3 = nn.Conv2d(f, 4 * f, 1, bias=False), nn.BatchNorm2d(4 * f)
        self.downsample = ConvBN(c, 4 * f, 1, s, act=None) if s > 1 or c != 4 * f else None

    def forward(self, x):
        y = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        return torch.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    def __init__(self, block, times, wider):
        super().__init__()
        self.conv1, self.bn1, self.pool = (
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.MaxPool2d(3, 2, 1),
        )
        c = 64
        for i, n in enumerate(times):
            f = 64 * 2**i
            blocks = [block(c, f, 2 if i else 1), *(block(f * wider, f, 1) for _ in range(n - 1))]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            c = f * wider
        self.fc = nn.Linear(c, 1000)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, c, f, s, ratio):
        super().__init__()
        e = c * ratio
        expand = [ConvBN(c, e)] if ratio > 1 else []
        self.conv = nn.Sequential(
            *expand, ConvBN(e, e, 3, s, e), nn.Conv2d(e, f, 1, bias=False), nn.BatchNorm2d(f)
        )  # fmt: skip
        self.same = s == 1 and c == f

    def forward(self, x):
        return self.conv(x) + x if self.same else self.conv(x)


class Headed(nn.Module):
    """``features`` and ``classifier``, with the mean over the picture or a flatten between them."""

    def __init__(self, features, classifier, flat=False):
        super().__init__()
        self.features, self.classifier, self.flat = features, classifier, flat

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x.flatten(1) if self.flat else x.mean((2, 3)))


def mobilenet_v2():
    layers, c = [ConvBN(3, 32, 3, 2)], 32
    for t, f, n, s in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(n):
            layers.append(Inverted(c, f, 1 if i else s, t))
            c = f
    return Headed(nn.Sequential(*layers, ConvBN(320, 1280)), nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000)))


class Excite(nn.Module):
    def __init__(self, c, squeeze):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, squeeze, 1), nn.Conv2d(squeeze, c, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))))


class MBConv(nn.Module):
    def __init__(self, c, f, k, s, ratio):
        super().__init__()
        e = c * ratio
        expand = [ConvBN(c, e, act=nn.SiLU)] if ratio > 1 else []
        self.block = nn.Sequential(
            *expand, ConvBN(e, e, k, s, e, act=nn.SiLU), Excite(e, c // 4), ConvBN(e, f, act=None)
        )
        self.same = s == 1 and c == f

    def forward(self, x):
        return self.block(x) + x if self.same else self.block(x)


def efficientnet_b0():
    stages, c = [ConvBN(3, 32, 3, 2, act=nn.SiLU)], 32
    for t, k, s, f, n in (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ):  # fmt: skip
        stages.append(nn.Sequential(*(MBConv(f if i else c, f, k, 1 if i else s, t) for i in range(n))))
        c = f
    head = nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))
    return Headed(nn.Sequential(*stages, ConvBN(320, 1280, act=nn.SiLU)), head)


class Fire(nn.Module):
    def __init__(self, c, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(c, squeeze, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, 1, 1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self):
        super().__init__()

        def pool():
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128),
            Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


class DenseLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, 128, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, 1, 1, bias=False)

    def forward(self, x):
        y = self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return torch.cat([x, y], 1)


def densenet121():
    f, c = nn.Sequential(), 64
    f.add_module("conv0", nn.Conv2d(3, 64, 7, 2, 3, bias=False))
    f.add_module("norm0", nn.BatchNorm2d(64))
    f.add_module("relu0", nn.ReLU())
    f.add_module("pool0", nn.MaxPool2d(3, 2, 1))
    for i, n in enumerate((6, 12, 24, 16), 1):
        block = nn.Sequential()
        for j in range(1, n + 1):
            block.add_module(f"denselayer{j}", DenseLayer(c))
            c += 32
        f.add_module(f"denseblock{i}", block)
        if i < 4:
            step = nn.Sequential()
            step.add_module("norm", nn.BatchNorm2d(c))
            step.add_module("relu", nn.ReLU())
            c //= 2
            step.add_module("conv", nn.Conv2d(2 * c, c, 1, bias=False))
            step.add_module("pool", nn.AvgPool2d(2))
            f.add_module(f"transition{i}", step)
    f.add_module("norm5", nn.BatchNorm2d(c))
    f.add_module("relu5", nn.ReLU())
    return Headed(f, nn.Linear(c, 1000))


class BasicConv(nn.Module):
    def __init__(self, c, f, k=1, s=1):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c, f, k, s, k // 2, bias=False), nn.BatchNorm2d(f, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, c, one, r3, three, r5, five, pool):
        super().__init__()
        self.branch1 = BasicConv(c, one)
        self.branch2 = nn.Sequential(BasicConv(c, r3), BasicConv(r3, three, 3))
        self.branch3 = nn.Sequential(BasicConv(c, r5), BasicConv(r5, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv(c, pool))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = BasicConv(3, 64, 7, 2), BasicConv(64, 64), BasicConv(64, 192, 3)
        sizes = {
            "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
            "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
            "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
            "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
            "5b": (832, 384, 192, 384, 48, 128, 128),
        }  # fmt: skip
        for name, size in sizes.items():
            setattr(self, f"inception{name}", Inception(*size))
        self.aux1 = nn.Sequential(BasicConv(512, 128))
        self.fc = nn.Linear(1024, 1000)
        self.names = list(sizes)

    def forward(self, x):
        def pool(x, k=3):
            return nn.functional.max_pool2d(x, k, 2, ceil_mode=True)

        x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        for name in self.names:
            x = getattr(self, f"inception{name}")(x)
            x = pool(x) if name == "3b" else pool(x, 2) if name == "4e" else x
        return self.fc(x.mean((2, 3)))


def vgg11_bn(units, side):
    layers, c = [], 3
    for f in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
        if f == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(c, f, 3, 1, 1), nn.BatchNorm2d(f), nn.ReLU()]
            c = f
    return Headed(nn.Sequential(*layers), nn.Sequential(
        nn.Linear(512 * side * side, units), nn.ReLU(), nn.Dropout(), nn.Linear(units, units), nn.ReLU(), nn.Dropout(),
        nn.Linear(units, 1000),
    ), flat=True)  # fmt: skip


def alexnet(units, side):
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    return Headed(features, nn.Sequential(
        nn.Dropout(), nn.Linear(256 * side * side, units), nn.ReLU(), nn.Dropout(), nn.Linear(units, units), nn.ReLU(),
        nn.Linear(units, 1000),
    ), flat=True)  # fmt: skip
