"""The block catalogue: add a file, add its class to the list, done. Installed packages add theirs by entry points.

It is put together when it is first asked for, because a package's blocks import the base class from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnforge import plugins
from cnnforge.blocks.activation import Activation
from cnnforge.blocks.base import Block
from cnnforge.blocks.batch_norm import BatchNorm
from cnnforge.blocks.composite import Branches, Composite, Repeat, Residual, Sequence
from cnnforge.blocks.conv import Conv
from cnnforge.blocks.conv_transpose import ConvTranspose
from cnnforge.blocks.dropout import Dropout, DropPath, SpatialDropout
from cnnforge.blocks.fc import Fc, Flatten
from cnnforge.blocks.lrn import Lrn
from cnnforge.blocks.merge import ChannelShuffle, Merge, ShortcutPad
from cnnforge.blocks.pool import GlobalPool, Pool
from cnnforge.blocks.sample_norm import GroupNorm, LayerNorm
from cnnforge.blocks.scale import Scale
from cnnforge.fields import one_of, tag

__all__ = ["BLOCKS", "AnyBlock", "Block", "Composite", "Flatten"]

_LEAVES: tuple[type[Block], ...] = (
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
    Scale,
    SpatialDropout,
    DropPath,
    ChannelShuffle,
    ShortcutPad,
)
_COMPOSITES: tuple[type[Composite], ...] = (Sequence, Repeat, Residual, Branches)
_CLASSES: tuple[type[Block], ...] = (*_LEAVES, Merge, *_COMPOSITES)

if TYPE_CHECKING:
    AnyBlock = Block
    #: Block classes by the name that YAML gives them.
    BLOCKS: dict[str, type[Block]]


def __getattr__(name: str) -> Any:
    if name not in ("AnyBlock", "BLOCKS"):
        raise AttributeError(f"module 'cnnforge.blocks' has no attribute {name!r}")
    classes = (*_CLASSES, *plugins.classes(plugins.BLOCKS, Block, [tag(cls) for cls in _CLASSES]))
    found = {"AnyBlock": one_of(classes), "BLOCKS": {tag(cls): cls for cls in classes}}
    globals().update(found)
    for cls in classes:
        if issubclass(cls, Composite):  # composite blocks hold any block, which is known only now
            cls.model_rebuild(_types_namespace={"AnyBlock": found["AnyBlock"]})
    return found[name]
