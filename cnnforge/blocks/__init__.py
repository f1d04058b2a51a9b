"""The block catalogue: add a file, add its class to the list, done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnforge.blocks.activation import Activation
from cnnforge.blocks.base import Block
from cnnforge.blocks.batch_norm import BatchNorm
from cnnforge.blocks.conv import Conv
from cnnforge.blocks.conv_transpose import ConvTranspose
from cnnforge.blocks.dropout import Dropout, DropPath, SpatialDropout
from cnnforge.blocks.fc import Fc, Flatten
from cnnforge.blocks.lrn import Lrn
from cnnforge.blocks.pool import GlobalPool, Pool
from cnnforge.blocks.sample_norm import GroupNorm, LayerNorm
from cnnforge.fields import one_of, tag

__all__ = ["BLOCKS", "AnyBlock", "Block", "Flatten"]

_CLASSES: tuple[type[Block], ...] = (
    Conv,
    ConvTranspose,
    Pool,
    GlobalPool,
    Fc,
    Flatten,
    Activation,
    Dropout,
    BatchNorm,
    GroupNorm,
    LayerNorm,
    Lrn,
    SpatialDropout,
    DropPath,
)

#: Block classes by the name that YAML gives them.
BLOCKS = {tag(cls): cls for cls in _CLASSES}

if TYPE_CHECKING:
    AnyBlock = Block
else:
    AnyBlock = one_of(_CLASSES)
