"""Arguments that many commands take."""

import argparse

import pytest

from cnnforge.cli.arguments import RUN, whole_number
from cnnforge.cli.main import COMMANDS, module_of, parser_of


def test_a_run_is_the_same_in_every_command():
    """And so is where runs lie: a reader learns it once."""
    found = {}
    for name in COMMANDS:
        for action in parser_of(name, module_of(name))._actions:
            if action.metavar == "RUN":
                found[name] = action.help
            if action.option_strings == ["--dir"]:
                assert "folder of the runs" in action.help, name
    models = {name for name, text in found.items() if "saved model" in text}
    assert models == {"predict", "export", "serve"}
    assert all(text.startswith(RUN) for name, text in found.items() if name not in models)
    assert set(found) - models == {"evaluate", "resume", "reproduce", "report", "sync", "runs"}


def test_whole_numbers():
    assert [whole_number(0)("0"), whole_number(1)("7"), whole_number(1, 100)("100")] == [0, 7, 100]
    for least, most, text, said in (
        (0, None, "-1", "'-1' is not a whole number of 0 or more"),
        (1, None, "0", "'0' is not a whole number above 0"),
        (1, 100, "101", "'101' is not a whole number from 1 to 100"),
        (1, None, "2.5", "'2.5' is not a whole number above 0"),
    ):
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            whole_number(least, most)(text)
        assert str(caught.value) == said
