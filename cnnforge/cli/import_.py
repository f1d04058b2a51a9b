"""``cnnforge import FILE.onnx --out DIR``: a network from elsewhere as YAML and weights."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnforge.inference.importing import Brought


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Turn an ONNX file into DIR/model/NAME.yaml, to read and to edit, and DIR/weights/NAME, to start from or to "
        "predict with; both together give what onnxruntime gives for the file."
    )
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="the file to read")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder of configs, such as ./configs")
    parser.add_argument("--name", help="what the network is called (default: the file's name)")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the pictures, where the file leaves it open"
    )
    parser.add_argument("--output", metavar="NAME", help="which output, where the file has several")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(args: argparse.Namespace) -> int:
    """Read, compare, write. Returns the exit code."""
    from cnnforge.inference.importing import bring_in

    size = None if args.size is None else (args.size[0], args.size[1])
    brought = bring_in(args.file, args.out, args.name, size, args.output)
    print(json.dumps(as_json(brought)) if args.json else text(brought, args.out))
    return 0


def as_json(brought: Brought) -> dict[str, object]:
    """What ``--json`` prints."""
    return {
        "name": brought.name,
        "config": str(brought.config),
        "weights": str(brought.weights),
        "layers": len(brought.model.spec.table),
        "params": sum(row.param_count for row in brought.model.spec.table),
        "difference": brought.difference,
        "notes": list(brought.notes),
    }


def text(brought: Brought, out: Path) -> str:
    """What was written, what was compared, and what to do with it."""
    table = brought.model.spec.table
    params = sum(row.param_count for row in table)
    lines = [
        f"{brought.config}: {len(table)} layers",
        f"{brought.weights}/: {params:,} parameters",
    ]
    if brought.difference is not None:
        lines.append(f"largest difference to onnxruntime: {brought.difference:.2g} on random inputs")
    lines += [f"note: {note}" for note in brought.notes]
    own = "" if os.path.abspath(out) == os.path.abspath("configs") else f" --config-dir {out}"
    lines += [
        "",
        f"look at it:    cnnforge check{own} model={brought.name}",
        f"train it on:   cnnforge train{own} model={brought.name} init_from={brought.weights}",
    ]
    return "\n".join(lines)
