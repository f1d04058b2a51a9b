"""Pictures of a model's spec: ``volumes``, the textbook's boxes of a straight net, and ``blocks``, its graph of layers.

Made from the table alone. Layout (``volumes``, ``blocks``) gives places, ``drawing`` makes shapes of them, ``svg`` and
``png`` write those. The SVG is written here and not by Matplotlib because text must stay text, and small.
"""

from __future__ import annotations

from typing import Literal

from cnnforge.errors import ConfigError
from cnnforge.report.diagram.canvas import Picture
from cnnforge.report.diagram.structure import Boxes, chain_of, framed, gather
from cnnforge.report.diagram.svg import svg
from cnnforge.spec import ModelSpec
from cnnforge.spec.layers import MODEL_INPUT

Kind = Literal["volumes", "blocks", "auto"]
#: Straight nets of more boxes than this are drawn as blocks, where nobody says how.
MOST_VOLUMES = 40

__all__ = ["Kind", "diagram", "diagram_svg"]


def diagram_svg(model: ModelSpec) -> str:
    """The picture that suits the model, as the text of an SVG file; also valid within a page of HTML."""
    return svg(diagram(model))


def diagram(model: ModelSpec, kind: Kind = "auto", depth: int | None = None) -> Picture:
    """A picture of the model.

    depth: layers whose names begin with the same so many parts are one box
    Raises ConfigError where ``volumes`` is asked of a net that is not straight.
    """
    from cnnforge.report.diagram import blocks, drawing, volumes

    apart = gather(model.table, depth, flatten_apart=True)
    if kind == "volumes" and not apart.straight:
        raise _not_straight(model, apart)
    if kind == "volumes" or (kind == "auto" and apart.straight and len(apart.leaves) <= MOST_VOLUMES):
        return drawing.of_volumes(volumes.layout(apart.leaves, model.input), model)
    from cnnforge.report.diagram.folding import folded

    chain = folded(framed(chain_of(gather(model.table, depth))))
    return drawing.of_blocks(blocks.layout(chain, model.input, kinds(model)), model)


def _not_straight(model: ModelSpec, boxes: Boxes) -> ConfigError:
    at = next(i for i, reads in enumerate(boxes.reads) if reads != (i - 1,))
    sources = " and ".join(boxes.leaves[i].name if i >= 0 else MODEL_INPUT for i in boxes.reads[at])
    in_parts = gather(model.table, 1, flatten_apart=True).straight
    return ConfigError(
        f"{model.name} cannot be drawn as volumes",
        where="cnnforge draw --kind volumes",
        why=f"volumes stand one behind the other, and {boxes.leaves[at].name} reads {sources}",
        fix="--kind blocks" + (", or --depth 1 for its parts as one box each" if in_parts else ""),
    )


def kinds(model: ModelSpec) -> dict[str, str]:
    """What the user's templates are called, by the name of the layer that is one or repeats one."""
    written = model.model_dump(mode="json")
    templates, found = written.get("templates", {}), {}
    for name, block in written["layers"].items():
        kind = block.get("type")
        if kind == "repeat":
            kind = block.get("block", {}).get("type")
        if kind in templates:
            found[str(name)] = str(kind)
    return found
