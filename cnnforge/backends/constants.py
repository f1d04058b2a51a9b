"""Numbers that formulas have on every backend."""

from __future__ import annotations

#: Of selu: with them, mean 0 and variance 1 is a fixed point (Klambauer et al., NeurIPS 2017).
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

#: What the cube counts in gelu by tanh (Hendrycks and Gimpel, 2016).
GELU_CUBE = 0.044715

#: What PyTorch adds to a gradient's length before it divides by it.
CLIP_EPSILON = 1e-6

#: Of loss scaling, PyTorch's (``torch.amp.GradScaler``): what the scale begins at, what it is multiplied by after so
#: many updates whose gradients were all finite, and by after one whose were not.
FIRST_SCALE, SCALE_GROWTH, SCALE_INTERVAL, SCALE_BACKOFF = 2.0**16, 2.0, 2000, 0.5
#: It stays within these, between which it and its inverse are float32 numbers.
LEAST_SCALE, MOST_SCALE = 2.0**-126, 2.0**126
