"""Data sets: reading files, splitting, adapting pictures to a model's input, cutting batches.

One file per format (``digits``, ``idx``, ``npz``, ``synthetic``); ``loader`` turns what a format stores into a
``Dataset``; ``Batches`` writes its samples into a step's input.
"""

from __future__ import annotations

from cnnforge.data.batches import Batches
from cnnforge.data.dataset import Dataset, Split
from cnnforge.data.loader import load
from cnnforge.data.preprocess import Preprocessing

__all__ = ["Batches", "Dataset", "Preprocessing", "Split", "load"]
