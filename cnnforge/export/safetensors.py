"""A network in one safetensors file: weights by name, and in its header what is needed to build the network again.

The header's keys, each text: ``format`` (``cnnforge``), ``spec`` (the model section as JSON), ``classes`` (a JSON list
of names) and ``preprocessing`` (JSON), the last two where they are known. ``init_from`` reads the file as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import Preprocessing
from cnnforge.spec import ModelSpec


def to_safetensors(
    spec: ModelSpec,
    arrays: Mapping[str, NDArray[Any]],
    preprocessing: Preprocessing | None = None,
    classes: tuple[str, ...] = (),
) -> bytes:
    """The bytes of the file. arrays: parameters and running state by name"""
    from safetensors.numpy import save

    header = {"format": "cnnforge", "spec": json.dumps(spec.model_dump(mode="json", exclude_none=True))}
    if classes:
        header["classes"] = json.dumps(list(classes))
    if preprocessing is not None:
        header["preprocessing"] = json.dumps(preprocessing.to_dict())
    # safetensors 0.8.0 silently scrambles arrays that are not C-contiguous.
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=header)
