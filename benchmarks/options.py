"""What every script's command line has in common, and how it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

#: Processes that want a core: from here on threads wait for each other, and figures are of the queue.
BUSY = 0.7


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def parser(about: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser with the common options. ``rounds``: their usual number, for scripts that time in rounds."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--threads", type=positive, default=os.cpu_count(), help="of ours and of PyTorch's (%(default)s)")
    made.add_argument("--backend", default="auto", help="ours: auto, numba, numpy (%(default)s)")
    made.add_argument("--exact-conv", action="store_true", help="ours: trainer.exact_conv, which forbids Winograd's")
    made.add_argument("--markdown", action="store_true", help="print tables as Markdown, to paste into docs/")
    made.add_argument("--quick", action="store_true", help="the least that shows something; figures are rough")
    if rounds is not None:
        made.add_argument("--rounds", type=positive, help=f"turns that each engine gets ({rounds}, with --quick 2)")
        made.set_defaults(usual_rounds=rounds)
    return made


def parsed(made: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """The options, with what depends on --quick filled in. Raises BackendError for a backend that is not there."""
    from cnnforge.backends import resolve

    options = made.parse_args(words)
    resolve(options.backend)
    if "usual_rounds" in options and options.rounds is None:
        options.rounds = 2 if options.quick else options.usual_rounds
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY:
        print(f"note: others use this machine (load {load:.1f}): all figures are rough", file=sys.stderr)
    return options


def run(main: Callable[[], None]) -> None:
    """Run a script; what is wrong with its words is said as ``cnnforge`` says it, without a traceback."""
    from cnnforge.errors import CnnforgeError

    try:
        main()
    except CnnforgeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
