"""``cnnforge serve RUN``: a trained model as a small HTTP service, with a page to draw on."""

from __future__ import annotations

import argparse
import gc
from importlib.util import find_spec

from cnnforge.cli.arguments import add_run
from cnnforge.errors import BackendError, ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Serve a trained model over HTTP until Ctrl-C: POST a picture to /predict, or open the page and draw. "
        "On this machine only, unless --host says otherwise: the service asks nobody who they are."
    )
    add_run(parser, saved_too=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, help="default: the first free one from 8000 on; 0 for any")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="another name that it may be asked by, as behind a proxy; may be given again",
    )  # fmt: skip
    parser.add_argument("--max-bytes", type=int, default=8 << 20, help="of one request (default: %(default)s)")
    parser.add_argument("--max-batch", type=int, default=32, help="pictures run at once (default: %(default)s)")
    parser.add_argument(
        "--wait-ms", type=float, default=0.0,
        help="let a batch wait so long for more pictures; 0 takes those that came during the last (default: 0)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Find, load, compile, serve. Returns the exit code: 130 after Ctrl-C, 143 after SIGTERM."""
    _check(args)
    from cnnforge.tracking.finding import find_model

    folder = find_model(args.name, args.dir)
    from cnnforge.data.pictures import strictly
    from cnnforge.serve.app import make_app
    from cnnforge.serve.limits import Guard, Limits, allowed_hosts, is_loopback
    from cnnforge.serve.served import Served
    from cnnforge.serve.server import listen, serve

    served = Served.load(folder)
    app = make_app(served, args.max_batch, args.wait_ms / 1000, Limits(bytes=args.max_bytes))
    at = listen(args.host, args.port)
    host, port = at.getsockname()[:2]
    if not is_loopback(args.host):
        print(f"note: everyone who reaches {host} may ask; there is no password and no encryption")
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{'::1' if host == '::' else host}]" if ":" in host else host
    of = f" of {served.run}" if served.data else ""
    ready = f"{served.model.spec.name}{of}: http://{shown}:{port}   (Ctrl-C stops it)"
    # Imports, for which the command line lets garbage wait, are done; connections leave cycles behind.
    gc.freeze()
    gc.set_threshold(2000, 10, 10)
    with strictly():
        stopped = serve(Guard(app, allowed_hosts(args.host, args.allow_host)), at, ready)
    print("stopped")
    return stopped.exit_code if stopped else 0


def _check(args: argparse.Namespace) -> None:
    least = {"--max-bytes": (args.max_bytes, 1), "--max-batch": (args.max_batch, 1), "--wait-ms": (args.wait_ms, 0)}
    for flag, (value, bound) in least.items():
        if not bound <= value < 1 << 40:
            raise ConfigError(
                f"{flag} cannot be {value:g}", where=f"cnnforge serve {flag}", why=f"it is at least {bound}",
                fix=f"leave {flag} out for its default",
            )  # fmt: skip
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise BackendError(
            f"cnnforge serve needs {' and '.join(missing)}", where="cnnforge serve",
            why="not installed here", fix="pip install 'cnnforge[serve]'",
        )  # fmt: skip
