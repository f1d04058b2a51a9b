"""Published formulas on single Python floats: what element-wise kernels, norms, losses and optimizers are held to.

Written from the papers and PyTorch's documentation, not from the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _gelu_tanh(x: float) -> tuple[float, float]:
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return x * 0.5 * (1 + math.tanh(u)), 0.5 * (1 + math.tanh(u)) + x * 0.5 * (1 - math.tanh(u) ** 2) * du


#: Klambauer et al., 2017: appendix, definition of SELU.
_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772

#: name -> (f(x), f'(x)), given the op's attributes. The derivative at a kink is PyTorch's.
ACTIVATIONS: dict[str, Callable[[float, dict[str, Any]], tuple[float, float]]] = {
    "relu": lambda x, a: (max(x, 0.0), float(x > 0)),
    "leaky_relu": lambda x, a: (x if x > 0 else a["alpha"] * x, 1.0 if x > 0 else a["alpha"]),
    "elu": lambda x, a: (x, 1.0) if x > 0 else (a["alpha"] * math.expm1(x), a["alpha"] * math.exp(x)),
    "sigmoid": lambda x, a: (sigmoid(x), sigmoid(x) * sigmoid(-x)),
    "tanh": lambda x, a: (math.tanh(x), 1 / math.cosh(x) ** 2),
    "gelu": lambda x, a: (
        _gelu_tanh(x)
        if a["approximate"] == "tanh"
        else (x * _normal_cdf(x), _normal_cdf(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi))
    ),
    "relu6": lambda x, a: (min(max(x, 0.0), 6.0), float(0 < x < 6)),
    "hard_sigmoid": lambda x, a: (min(max(x + 3, 0.0), 6.0) / 6, 1 / 6 if -3 < x < 3 else 0.0),
    "hard_swish": lambda x, a: (
        x * min(max(x + 3, 0.0), 6.0) / 6,
        0.0 if x <= -3 else 1.0 if x >= 3 else x / 3 + 0.5,
    ),
    "softplus": lambda x, a: (max(x, 0.0) + math.log1p(math.exp(-abs(x))), sigmoid(x)),
    "selu": lambda x, a: (
        (_SCALE * x, _SCALE) if x > 0 else (_SCALE * _ALPHA * math.expm1(x), _SCALE * _ALPHA * math.exp(x))
    ),
    "silu": lambda x, a: (x * sigmoid(x), sigmoid(x) * (1 + x * sigmoid(-x))),
}


def activation(name: str, x: np.ndarray, attrs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(f(x), f'(x)), element by element."""
    pairs = [ACTIVATIONS[name](float(v), attrs) for v in x.reshape(-1)]
    return tuple(np.array(part, np.float64).reshape(x.shape) for part in zip(*pairs, strict=True))


def prelu(x: np.ndarray, alpha: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, dx, dalpha), alpha per channel."""
    y, dx, dalpha = np.zeros(x.shape), np.zeros(x.shape), np.zeros(alpha.shape)
    for at in np.ndindex(x.shape):
        slope = 1.0 if x[at] > 0 else float(alpha[at[-1]])
        y[at], dx[at] = slope * x[at], slope * dy[at]
        dalpha[at[-1]] += 0.0 if x[at] > 0 else x[at] * dy[at]
    return y, dx, dalpha


def softmax(z: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    y = np.empty(z.shape)
    for at in np.ndindex(z.shape[:-1]):
        powers = [math.exp(float(v) - float(max(z[at]))) for v in z[at]]
        y[at] = [p / math.fsum(powers) for p in powers]
    return y


def softmax_dx(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """dx_i = sum_j dy_j y_j (i == j) - y_i y_j: the whole Jacobian."""
    dx = np.zeros(y.shape)
    for at in np.ndindex(y.shape[:-1]):
        for i, j in product(range(y.shape[-1]), repeat=2):
            dx[(*at, i)] += dy[(*at, j)] * y[(*at, j)] * ((i == j) - y[(*at, i)])
    return dx


def softmax_cross_entropy(z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss per sample, share of right answers per sample, gradient of the summed loss."""
    y, rows = softmax(z), max(1, labels[0].size)
    loss, hits, dz = np.zeros(len(z)), np.zeros(len(z)), np.zeros(z.shape)
    for at in np.ndindex(labels.shape):
        right = int(labels[at])
        top = float(max(z[at]))
        loss[at[0]] += (top + math.log(math.fsum(math.exp(float(v) - top) for v in z[at])) - z[at][right]) / rows
        hits[at[0]] += (list(z[at]).index(max(z[at])) == right) / rows
        for k in range(z.shape[-1]):
            dz[(*at, k)] = (y[(*at, k)] - (k == right)) / rows
    return loss, hits, dz


def sigmoid_cross_entropy(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    loss, hits, dz = np.zeros(len(z)), np.zeros(len(z)), np.zeros(z.shape)
    for at in np.ndindex(z.shape):
        v, target = float(z[at]), float(t[at])
        # log sigmoid(v) = -log(1 + e^-v), on the side where the exponential is small
        log_yes, log_no = (-math.log1p(math.exp(-abs(v))) + min(s * v, 0) for s in (1, -1))
        loss[at[0]] -= (target * log_yes + (1 - target) * log_no) / z[0].size
        hits[at[0]] += ((v > 0) == (target > 0.5)) / z[0].size
        dz[at] = (sigmoid(v) - target) / z[0].size
    return loss, hits, dz


def class_targets(labels: np.ndarray, classes: int, smoothing: float, weights: tuple[float, ...]) -> np.ndarray:
    """What each class counts; with weights, the labels' own have a mean of 1 over the batch."""
    w = weights or (1.0,) * classes
    known = [int(label) for label in labels.reshape(-1) if 0 <= label < classes]
    weight = math.fsum(w[label] for label in known) / labels.size if weights else 1.0
    q = np.zeros((*labels.shape, classes))
    for at in np.ndindex(labels.shape):
        for k in range(classes if 0 <= labels[at] < classes else 0):
            one_hot = float(k == labels[at])
            q[(*at, k)] = w[k] * ((1 - smoothing) * one_hot + smoothing / classes) / weight if weight else 0.0
    return q


def mixed_targets(
    labels: np.ndarray, classes: int, smoothing: float, weights: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """What each class counts in two labels that share a sample, and the label of the larger share."""
    w = weights or (1.0,) * classes
    q, best = np.zeros((len(labels), classes)), np.zeros(len(labels), np.int64)
    for i, (a, b, share) in enumerate(labels.tolist()):
        for label, part in ((int(a), share), (int(b), 1 - share)):
            for k in range(classes):
                q[i, k] += part * w[k] * ((1 - smoothing) * (k == label) + smoothing / classes)
        best[i] = a if share >= 0.5 else b
    weight = math.fsum(w[int(a)] * s + w[int(b)] * (1 - s) for a, b, s in labels.tolist()) / len(labels)
    return q / (weight or math.inf if weights else 1), best


def soft_cross_entropy(z: np.ndarray, q: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-sum of q log softmax(z), class by class."""
    loss, dz, rows = np.zeros(len(z)), np.zeros(z.shape), max(1, labels[0].size)
    for k in range(z.shape[-1]):
        _, _, slope = softmax_cross_entropy(z, np.full(labels.shape, k))
        for at in np.ndindex(labels.shape):
            top = float(max(z[at]))
            log_sum = top + math.log(math.fsum(math.exp(float(v) - top) for v in z[at]))
            loss[at[0]] += float(q[(*at, k)]) * (log_sum - float(z[(*at, k)])) / rows
            dz[at] += float(q[(*at, k)]) * slope[at]
    return loss, softmax_cross_entropy(z, labels)[1], dz


def weighted_sigmoid_cross_entropy(
    z: np.ndarray, t: np.ndarray, smoothing: float, pos_weight: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a yes costs, by its weight, and what a no costs."""
    soft = (1 - smoothing) * t.astype(np.float64) + smoothing / 2
    loss, dz = np.zeros(len(z)), np.zeros(z.shape)
    for at in np.ndindex(z.shape):
        v, yes, no = float(z[at]), pos_weight * float(soft[at]), 1 - float(soft[at])
        log_yes, log_no = (-math.log1p(math.exp(-abs(v))) + min(s * v, 0) for s in (1, -1))
        loss[at[0]] -= (yes * log_yes + no * log_no) / z[0].size
        dz[at] = (no * sigmoid(v) - yes * sigmoid(-v)) / z[0].size
    return loss, sigmoid_cross_entropy(z, t)[1], dz


def mse(y: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    loss, dz = np.zeros(len(y)), np.zeros(y.shape)
    for at in np.ndindex(y.shape):
        loss[at[0]] += (float(y[at]) - float(target[at])) ** 2 / y[0].size
        dz[at] = 2 * (float(y[at]) - float(target[at])) / y[0].size
    return loss, np.zeros(len(y)), dz


LOSSES = {"softmax_cross_entropy": softmax_cross_entropy, "sigmoid_cross_entropy": sigmoid_cross_entropy, "mse": mse}


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, biased variance, unbiased variance) per channel; of one value the unbiased one is 0 here."""
    mean, var, unbiased = (np.zeros(x.shape[-1]) for _ in range(3))
    for c in range(x.shape[-1]):
        values = [float(v) for v in x[..., c].reshape(-1)]
        mean[c] = math.fsum(values) / len(values)
        squares = math.fsum((v - mean[c]) ** 2 for v in values)
        var[c], unbiased[c] = squares / len(values), squares / max(1, len(values) - 1)
    return mean, var, unbiased


def batch_norm(x, gamma, beta, mean, var, epsilon) -> np.ndarray:
    y = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        c = at[-1]
        y[at] = gamma[c] * (x[at] - mean[c]) / math.sqrt(var[c] + epsilon) + beta[c]
    return y


def batch_norm_backward(x, gamma, mean, var, dy, epsilon) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx, dgamma, dbeta) through the statistics as well, one derivative at a time (Ioffe and Szegedy, section 3)."""
    rows = x.size // x.shape[-1]
    dx, dgamma, dbeta = np.zeros(x.shape), np.zeros(x.shape[-1]), np.zeros(x.shape[-1])
    for c in range(x.shape[-1]):
        deviation = math.sqrt(var[c] + epsilon)
        values = [(at, float(x[(*at, c)]), float(dy[(*at, c)])) for at in np.ndindex(x.shape[:-1])]
        dgamma[c] = math.fsum(d * (v - mean[c]) / deviation for _, v, d in values)
        dbeta[c] = math.fsum(d for _, _, d in values)
        dvar = math.fsum(d * gamma[c] * (v - mean[c]) * -0.5 * deviation**-3 for _, v, d in values)
        dmean = math.fsum(-d * gamma[c] / deviation for _, _, d in values)
        dmean += dvar * math.fsum(-2 * (v - mean[c]) for _, v, _ in values) / rows
        for at, v, d in values:
            dx[(*at, c)] = d * gamma[c] / deviation + dvar * 2 * (v - mean[c]) / rows + dmean / rows
    return dx, dgamma, dbeta


def normalised(x: np.ndarray, part: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(h, mean, inverse): mean 0 and variance 1 within all elements of equal number in ``part``; the others by part."""
    h, mean, inverse = np.zeros(x.shape), np.zeros(part.max() + 1), np.zeros(part.max() + 1)
    for p in range(part.max() + 1):
        values = [float(v) for v in x[part == p]]
        mean[p] = math.fsum(values) / len(values)
        inverse[p] = 1 / math.sqrt(math.fsum((v - mean[p]) ** 2 for v in values) / len(values) + epsilon)
        h[part == p] = [(v - mean[p]) * inverse[p] for v in values]
    return h, mean, inverse


def normalised_backward(h: np.ndarray, part: np.ndarray, inverse: np.ndarray, dh: np.ndarray) -> np.ndarray:
    """dx_i = inverse sum_j dh_j (i == j) - 1/size - h_i h_j / size: the whole Jacobian of each part."""
    dx = np.zeros(h.shape)
    for p in range(part.max() + 1):
        hs, ds = h[part == p], dh[part == p]
        jacobian = np.eye(len(hs)) - 1 / len(hs) - np.outer(hs, hs) / len(hs)
        dx[part == p] = inverse[p] * (jacobian @ ds)
    return dx


def lrn(x, dy, size, alpha, beta, k) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, base, dx) over the last axis: zeros beside the channels, size//2 of them in front (PyTorch)."""
    c = x.shape[-1]
    y, base, dx = np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape)
    for at in np.ndindex(x.shape[:-1]):
        v, d = [[float(u) for u in a[at]] for a in (x, dy)]
        near = [[j for j in range(i - size // 2, i - size // 2 + size) if 0 <= j < c] for i in range(c)]
        base[at] = [k + alpha * sum(v[j] ** 2 for j in near[i]) / size for i in range(c)]
        y[at] = [v[i] * base[at][i] ** -beta for i in range(c)]
        for i, j in product(range(c), repeat=2):  # dy_i/dx_j
            slope = base[at][i] ** -beta * (i == j)
            slope -= v[i] * beta * base[at][i] ** (-beta - 1) * 2 * alpha / size * v[j] * (j in near[i])
            dx[(*at, j)] += d[i] * slope
    return y, base, dx


class Scalar:
    """One parameter under an optimizer, as torch.optim's documentation writes it. ``slots`` in our order."""

    def __init__(self, kind: str, p: float, slots: list[float], attrs: dict[str, Any]) -> None:
        self.kind, self.p, self.slots, self.attrs = kind, p, list(slots), attrs

    def update(self, g: float, lr: float, step: int) -> None:
        """One step with mean gradient ``g``; ``step`` from 1."""
        a = self.attrs
        lr *= a.get("rate", 1.0)
        if self.kind == "adamw":
            self.p -= lr * a["weight_decay"] * self.p
        else:
            g += a["weight_decay"] * self.p
        getattr(self, f"_{self.kind.removesuffix('w')}")(g, lr, step)

    def _sgd(self, g: float, lr: float, step: int) -> None:
        if momentum := self.attrs["momentum"]:
            self.slots[0] = momentum * self.slots[0] + g
            g = g + momentum * self.slots[0] if self.attrs["nesterov"] else self.slots[0]
        self.p -= lr * g

    def _rmsprop(self, g: float, lr: float, step: int) -> None:
        a = self.attrs
        self.slots[0] = a["alpha"] * self.slots[0] + (1 - a["alpha"]) * g * g
        g = g / (math.sqrt(self.slots[0]) + a["epsilon"])
        if a["momentum"]:
            g = self.slots[1] = a["momentum"] * self.slots[1] + g
        self.p -= lr * g

    def _adam(self, g: float, lr: float, step: int) -> None:
        a = self.attrs
        self.slots[0] = a["beta1"] * self.slots[0] + (1 - a["beta1"]) * g
        self.slots[1] = a["beta2"] * self.slots[1] + (1 - a["beta2"]) * g * g
        mean, square = self.slots[0] / (1 - a["beta1"] ** step), self.slots[1] / (1 - a["beta2"] ** step)
        self.p -= lr * mean / (math.sqrt(square) + a["epsilon"])


def lamb(
    p: np.ndarray, g: np.ndarray, slots: list[np.ndarray], a: dict[str, Any], lr: float, step: int
) -> tuple[np.ndarray, ...]:
    """One tensor's (p, m, v) after a step with mean gradient g: You et al., ICLR 2020, algorithm 2, with phi(z) = z.

    The paper leaves out what happens where a length is 0: its authors' code then takes the quotient as 1.
    """
    m, v = ([float(s) for s in slot.reshape(-1)] for slot in slots)
    weights, r = [float(x) for x in p.reshape(-1)], []
    for i, gradient in enumerate(float(x) for x in g.reshape(-1)):
        m[i] = a["beta1"] * m[i] + (1 - a["beta1"]) * gradient
        v[i] = a["beta2"] * v[i] + (1 - a["beta2"]) * gradient**2
        ratio = m[i] / (1 - a["beta1"] ** step) / (math.sqrt(v[i] / (1 - a["beta2"] ** step)) + a["epsilon"])
        r.append(ratio + a["weight_decay"] * weights[i])
    length, moved = (math.sqrt(math.fsum(x * x for x in values)) for values in (weights, r))
    trust = length / moved if length and moved else 1.0
    weights = [x - lr * a.get("rate", 1.0) * trust * y for x, y in zip(weights, r, strict=True)]
    return tuple(np.array(values).reshape(p.shape) for values in (weights, m, v))


def newton_schulz(x: np.ndarray, coefficients: tuple[float, float, float], steps: int, epsilon: float) -> np.ndarray:
    """What Muon's quintic does to singular values, done to them: their vectors stay."""
    u, values, vt = np.linalg.svd(x / max(math.sqrt(math.fsum(x.reshape(-1) ** 2)), epsilon), full_matrices=False)
    a, b, c = coefficients
    for _ in range(steps):
        values = a * values + b * values**3 + c * values**5
    return (u * values) @ vt


def muon(
    p: np.ndarray, g: np.ndarray, mean: np.ndarray, a: dict[str, Any], factor: float, lr: float
) -> tuple[np.ndarray, np.ndarray]:
    """One matrix's (p, mean) after a step with mean gradient g, as torch.optim.Muon's documentation writes it."""
    mean = a["momentum"] * mean + (1 - a["momentum"]) * g
    u = a["momentum"] * mean + (1 - a["momentum"]) * g if a["nesterov"] else mean
    lr *= a.get("rate", 1.0)
    step = newton_schulz(u, a["coefficients"], a["steps"], a["epsilon"])
    return p * (1 - lr * a["weight_decay"]) - lr * factor * step, mean


#: IEEE 754 and Google's bfloat16: digits of the significand, the least exponent of a normal number, the largest number.
FORMATS = {
    "float16": (11, -14, 65504.0), "bfloat16": (8, -126, (2 - 2.0**-7) * 2.0**127),
    "float32": (24, -126, (2 - 2.0**-23) * 2.0**127), "float64": (53, -1022, (2 - 2.0**-52) * 2.0**1023),
}  # fmt: skip


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """x, float64, rounded to the nearest number of a format, ties to the even one; float64 again."""
    digits, least, largest = FORMATS[dtype]
    _, exponent = np.frexp(x)  # x = m 2^exponent, 1/2 <= |m| < 1
    unit = np.maximum(exponent - 1, least) - (digits - 1)
    y = np.ldexp(np.rint(np.ldexp(x, -unit)), unit)
    return np.where(abs(y) > largest, np.copysign(np.inf, y), y)


@dataclass(frozen=True)
class Scaling:
    """A loss scale as the documentation of torch.amp.GradScaler has it, with its defaults."""

    scale: float
    since: int
    skip: bool
    stopped: int

    def after(self, finite: bool) -> Scaling:
        if self.stopped:
            return Scaling(self.scale, self.since, True, self.stopped)
        if not finite:
            return Scaling(self.scale / 2, 0, True, 0)
        grows = self.since + 1 == 2000
        return Scaling(self.scale * (2 if grows else 1), 0 if grows else self.since + 1, False, 0)
