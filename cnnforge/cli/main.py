"""``cnnforge``: find the command, parse its flags and overrides, run it, and turn its errors into text and exit codes.

Nothing heavy is imported here, nor any command but the one that runs.
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, suggest

if TYPE_CHECKING:
    from types import ModuleType

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Command:
    """A command's one line of help.

    composes: does it take a config: overrides and ``--config-dir``?
    shared: may an MPI launcher start several processes of it, which then do one thing together?
    module: in this package; the command's own name where it is not given
    """

    help: str
    composes: bool = False
    shared: bool = False
    module: str = ""


#: Each command is a module in this package.
COMMANDS = {
    "init": Command("make a project of your own that trains at once"),
    "train": Command("train a network", composes=True, shared=True),
    "sweep": Command("check a whole space of configs, then train each point", composes=True),
    "check": Command("validate a config and print its layers, sizes and memory; reads no data", composes=True),
    "draw": Command("draw a network as a picture: its volumes, or its blocks", composes=True),
    "evaluate": Command("score a trained model on its own data or others"),
    "predict": Command("what a trained model says of picture files, and what of them mattered"),
    "augment": Command("show augmented training pictures as one picture", composes=True),
    "resume": Command("go on with a run that was stopped, bit for bit", shared=True),
    "reproduce": Command("do a run again from its own record and compare every number"),
    "report": Command("make a run's report.html and plots again"),
    "lr": Command("find a learning rate: a short run over which it grows, and its picture", composes=True),
    "export": Command("write a trained network as an ONNX or safetensors file"),
    "import": Command("turn an ONNX file into a config and weights", module="import_"),
    "sync": Command("send to MLflow what could not be sent while training"),
    "explain": Command("the course: edge filters, padding, stride …, computed from configs to change", composes=True),
    "ui": Command("look at the runs in MLflow's pages"),
    "serve": Command("serve a trained model over HTTP, with a page to draw on"),
    "runs": Command("list runs, show one, compare some, delete them"),
    "doctor": Command("say what this machine has and what is in the way"),
    "schema": Command("print what configs may say as JSON Schema, for editors"),
    "completion": Command("print what lets a shell complete commands, flags, groups and keys"),
}
#: What the shells' scripts ask for; no command for people.
COMPLETE = "complete"

_OVERRIDES = """overrides change the config, in any order and mixed with flags:
  model=lenet5                     another option of a group
  optimizer.lr=0.1                 a value
  +model.layers.drop1='{type: dropout, rate: 0.5, after: fc4}'     a new layer
  ~model.layers.pool2              one layer less"""


class _Parser(argparse.ArgumentParser):
    """Mistakes in the command line are errors like any other."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, where=self.prog, fix=f"{self.prog} --help shows what it takes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: see ``cnnforge.errors`` for which error gives which."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    threshold = gc.get_threshold()
    gc.set_threshold(100_000)  # imports make many objects and no garbage; looking for some takes a tenth of the time
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except CnnforgeError as error:
        _report(error, as_json="--json" in arguments)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough. What Python still holds back must not complain when it goes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as bug:
        if isinstance(bug, OSError) and (refused := _refused(bug, arguments)) is not None:
            _report(refused, as_json="--json" in arguments)
            return refused.exit_code
        import traceback

        traceback.print_exc()
        print("\nThis is a bug in cnnforge. Please report it with the lines above.", file=sys.stderr)
        return 1
    finally:
        gc.set_threshold(*threshold)


def _refused(error: OSError, arguments: Sequence[str]) -> CnnforgeError | None:
    """What the machine does not let this user do, wherever it comes up; None for what is a bug of ours."""
    if not isinstance(error.filename, str) or error.errno is None:
        return None
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        why, fix = "this user may not read or write it", "another folder, or other permissions"
    elif error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        why, fix = "there is no room for it", "room on the disk, or a folder on another"
    else:
        return None
    return ConfigError(f"{error.filename}: {error.strerror}", where=f"cnnforge {arguments[0]}", why=why, fix=fix)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from importlib.metadata import version

        print(f"cnnforge {version('cnnforge')}")
        return 0
    if name == COMPLETE:
        from cnnforge.cli.complete import answer

        print("\n".join(answer(" ".join(rest))))
        return 0
    if name not in COMMANDS:
        raise ConfigError(
            f"'{name}' is not a command",
            where="cnnforge",
            why=f"the commands are {', '.join(COMMANDS)}",
            fix=suggest(name, COMMANDS) or "cnnforge --help says what each does; the command comes first",
        )
    if not COMMANDS[name].shared:
        _refuse_several(name)
    # pydantic looks through every installed package for plugins of its own; none has a say in our configs.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    command = module_of(name)
    args = _parse(parser_of(name, command), rest)
    code = 0 if args is None else int(command.run(args))
    _say_what_is_broken()
    return code


def _refuse_several(name: str) -> None:
    """Raise ConfigError where an MPI launcher started several processes of the command."""
    from cnnforge.train.launcher import launched

    if (launch := launched()) is None:
        return
    if launch.rank:  # the first says it
        sys.exit(ConfigError.exit_code)
    raise ConfigError(
        f"cnnforge {name} is the work of one process",
        where=f"an MPI launcher started {launch.size or 'several'} of it",
        why=f"{', '.join(name for name, command in COMMANDS.items() if command.shared)} run over many",
        fix=f"cnnforge {name} without mpiexec",
    )


def _say_what_is_broken() -> None:
    """Plugins that could not be used harm nobody who does not name them, but somebody installed them."""
    if plugins := sys.modules.get("cnnforge.plugins"):
        for error in plugins.broken():
            print(f"note: {error.what}: {error.why}", file=sys.stderr)


def module_of(name: str) -> ModuleType:
    """The module of a command."""
    from importlib import import_module

    return import_module(f"cnnforge.cli.{COMMANDS[name].module or name}")


def parser_of(name: str, command: ModuleType) -> argparse.ArgumentParser:
    """What reads the command's words."""
    parser = _Parser(
        prog=f"cnnforge {name}",
        description=COMMANDS[name].help,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if COMMANDS[name].composes:
        from cnnforge.cli.arguments import add_config_dir

        parser.epilog = _OVERRIDES
        parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or key=value")
        add_config_dir(parser)
    command.configure(parser)
    return parser


def _parse(parser: argparse.ArgumentParser, rest: list[str]) -> argparse.Namespace | None:
    """The command's arguments; None where only its help was asked for."""
    try:
        args, unknown = parser.parse_known_intermixed_args(rest)
    except SystemExit:  # argparse ends --help this way; its errors are raised above
        return None
    if unknown:
        raise ConfigErrors([_unknown(parser, flag) for flag in unknown])
    return args


def _unknown(parser: argparse.ArgumentParser, flag: str) -> ConfigError:
    known = [option for action in parser._actions for option in action.option_strings]
    name = flag.partition("=")[0]
    return ConfigError(
        f"{name} is not a flag of {parser.prog}" if flag.startswith("-") else f"'{flag}' is one argument too many",
        where=f"{parser.prog} {flag}",
        why=f"its flags are {', '.join(option for option in known if option.startswith('--'))}",
        fix=suggest(name, known) or f"{parser.prog} --help",
    )


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cnnforge COMMAND [flags and overrides, in any order]",
            "",
            "Train convolutional networks that are written down in YAML, not programmed.",
            "",
            "commands:",
            *rows,
            "",
            "examples:",
            "  cnnforge init mynet",
            "  cnnforge check model=lenet",
            "  cnnforge train model=lenet optimizer=momentum trainer.epochs=5",
            "",
            "cnnforge COMMAND --help says more; cnnforge --version says which this is.",
        ]
    )


def _report(error: CnnforgeError, as_json: bool) -> None:
    """Errors go to stderr as text, or with ``--json`` to stdout as a list of {what, where, why, fix}."""
    errors: Sequence[Any] = error.errors if isinstance(error, ConfigErrors) else (error,)
    if as_json:
        import json

        print(json.dumps([one.to_dict() for one in errors], indent=2))
    else:
        print("\n\n".join(str(one) for one in errors), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
