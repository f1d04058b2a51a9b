"""``cnnforge export RUN --to onnx|safetensors OUT``: a trained network for other programs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.cli.arguments import add_run

if TYPE_CHECKING:
    from cnnforge.inference.exporting import Exported


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Write a trained network as an ONNX file, which onnxruntime and many others run, or as one safetensors file. "
        "An ONNX file is compared with cnnforge's own predictions before it is written."
    )
    add_run(parser, saved_too=True)
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument("--to", required=True, choices=("onnx", "safetensors"), help="format")
    parser.add_argument(
        "--layout", choices=("nchw", "nhwc"), default="nchw", help="of ONNX input and output (default: %(default)s)"
    )
    parser.add_argument("--raw", action="store_true", help="ONNX: take raw pixels, normalise inside")
    parser.add_argument("--opset", type=int, default=17, metavar="N", help="ONNX opset, 17 to 22 (default: 17)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(args: argparse.Namespace) -> int:
    """Find the run, write the file, say how far it is from the original. Returns the exit code."""
    from cnnforge.inference.exporting import export
    from cnnforge.model import Model
    from cnnforge.tracking.finding import find_model, is_saved_model

    folder = find_model(args.name, args.dir)
    model = Model.load(folder, backend="numpy")
    own = None if is_saved_model(folder) else folder
    exported = export(model, args.to, args.out, own, args.opset, args.layout, args.raw)
    print(json.dumps(as_json(exported)) if args.json else text(exported))
    return 0


def as_json(exported: Exported) -> dict[str, object]:
    """What ``--json`` prints."""
    return {
        "path": str(exported.path),
        "bytes": exported.size,
        "differences": exported.differences,
        "notes": list(exported.notes),
    }


def text(exported: Exported) -> str:
    """The file, and what was compared."""
    size = exported.size
    shown = f"{size / 2**20:.1f} MiB" if size >= 1 << 20 else f"{size / 2**10:.1f} KiB"
    lines = [f"{exported.path}: {shown}"]
    lines += [
        f"largest difference to onnxruntime: {value:.2g} on {what}" for what, value in exported.differences.items()
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in exported.notes)])
