"""The block catalogue: add a file, add its class to the list, done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnforge.blocks.activation import Activation
from cnnforge.blocks.base import Block
from cnnforge.blocks.batch_norm import BatchNorm
from cnnforge.blocks.composite import Branches, Composite, Repeat, Residual, Sequence
from cnnforge.blocks.conv import Conv
from cnnforge.blocks.dropout import Dropout, DropPath, SpatialDropout
from cnnforge.blocks.fc import Fc, Flatten
from cnnforge.blocks.lrn import Lrn
from cnnforge.blocks.merge import ChannelShuffle, Merge, ShortcutPad
from cnnforge.blocks.pool import GlobalPool, Pool
from cnnforge.blocks.sample_norm import GroupNorm, LayerNorm
from cnnforge.fields import one_of, tag

__all__ = ["BLOCKS", "AnyBlock", "Block", "Composite", "Flatten"]

_LEAVES: tuple[type[Block], ...] = (
    Conv,
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
    ChannelShuffle,
    ShortcutPad,
)
_COMPOSITES: tuple[type[Composite], ...] = (Sequence, Repeat, Residual, Branches)
_CLASSES: tuple[type[Block], ...] = (*_LEAVES, Merge, *_COMPOSITES)

#: Block classes by the name that YAML gives them.
BLOCKS = {tag(cls): cls for cls in _CLASSES}

if TYPE_CHECKING:
    AnyBlock = Block
else:
    AnyBlock = one_of(_CLASSES)

# Composite blocks hold any block, which is known only now.
for _class in _COMPOSITES:
    _class.model_rebuild(_types_namespace={"AnyBlock": AnyBlock})
