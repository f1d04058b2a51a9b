"""``cnnforge explain``: the course in a terminal, from a config that its reader can change."""

from __future__ import annotations

import argparse
import sys

from cnnforge.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    from cnnforge.course import TOPICS

    parser.usage = "cnnforge explain [TOPIC] [flags] [OVERRIDE ...]"
    parser.epilog = f"topics: {', '.join(TOPICS)}; without one, what each is about\n\n{parser.epilog}"
    parser.add_argument("--answers", action="store_true", help="also the answers of the exercises, computed")


def run(args: argparse.Namespace) -> int:
    """Print a topic's page, or the list of topics. Raises ConfigError, ConfigErrors, DataError."""
    from cnnforge.course import TOPICS, lesson_on

    names = [word for word in args.overrides if "=" not in word and not word.startswith(("~", "+"))]
    overrides = [word for word in args.overrides if word not in names]
    if len(names) > 1 or (overrides and not names):
        said = f"{len(names)} topics: {', '.join(names)}" if names else "no topic is named"
        why = "a page speaks of one thing" if names else f"{overrides[0]} changes a topic's config"
        raise ConfigError(said, where="cnnforge explain", why=why, fix="cnnforge explain lists the topics")
    if names:
        asked = lesson_on(names[0], overrides, args.config_dir)
        from cnnforge.course.terminal import show

        show(asked, sys.stdout, answers=args.answers)
        return 0
    width = max(map(len, TOPICS))
    rows = [f"  {name:<{width}}  {topic.about}" for name, topic in TOPICS.items()]
    print("\n".join(["cnnforge explain TOPIC, with changes of its config where you like", "", *rows]))
    return 0
