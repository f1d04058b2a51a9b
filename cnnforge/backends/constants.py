"""Numbers that formulas have on every backend."""

from __future__ import annotations

#: Of selu: with them, mean 0 and variance 1 is a fixed point (Klambauer et al., NeurIPS 2017).
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

#: What the cube counts in gelu by tanh (Hendrycks and Gimpel, 2016).
GELU_CUBE = 0.044715

#: What PyTorch adds to a gradient's length before it divides by it.
CLIP_EPSILON = 1e-6
