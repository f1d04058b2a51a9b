"""The scan: what a text may cost, what is refused and where, and that every mark is right."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.config.scan import MAX_BYTES, MAX_DEPTH, scan
from cnnforge.errors import CnnforgeError, ConfigErrors


def stopped(text: str | bytes) -> str:
    with pytest.raises(ConfigErrors) as caught:
        scan(text if isinstance(text, bytes) else text.encode(), "a.yaml")
    return str(caught.value)


def found(text: str) -> list[str]:
    return [str(finding.error(())) for finding in scan(text.encode(), "a.yaml").findings]


def test_values_marks_and_package() -> None:
    document = scan(
        b"# @package _global_\n# more\nname: net\ninput: [8, 1e-3, ~]\nlayers:\n  c1: {type: conv}\n", "a.yaml"
    )
    assert document.tree == {"name": "net", "input": [8, 0.001, None], "layers": {"c1": {"type": "conv"}}}
    assert document.package == "_global_"
    assert document.findings == ()
    places = {path: (mark.line, mark.column) for path, mark in document.marks.items()}
    assert places == {
        ("name",): (3, 1),
        ("input",): (4, 1),
        ("input", 0): (4, 9),
        ("input", 1): (4, 12),
        ("input", 2): (4, 18),
        ("layers",): (5, 1),
        ("layers", "c1"): (6, 3),
        ("layers", "c1", "type"): (6, 8),
    }
    assert str(document.marks["layers", "c1"]) == "a.yaml:6:3"


def test_the_package_line_ends_with_the_comments() -> None:
    assert scan(b"a: 1\n# @package _global_\n", "a.yaml").package is None


def test_an_alias_is_a_copy() -> None:
    tree = scan(b"a: &x {k: [1]}\nb: *x\n", "a.yaml").tree
    assert tree == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert tree["a"] is not tree["b"]


def test_quoted_text_stays_text() -> None:
    assert scan(b"a: '012'\nb: \"yes\"\nc: |\n  no\n", "a.yaml").tree == {"a": "012", "b": "yes", "c": "no\n"}
    assert found("a: '012'\n") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "the file is empty\n  where: a.yaml\n  why:   a config is a mapping, and there is none\n"
            "  fix:   write at least one 'key: value', or remove the file",
        ),
        (
            "# nothing\n",
            "the file says nothing\n  where: a.yaml\n  why:   a config is a mapping, and there is none\n"
            "  fix:   write at least one 'key: value', or remove the file",
        ),
        (
            "- a\n- b\n",
            "a config is a mapping of keys to values, not a list\n  where: a.yaml:1:1\n"
            "  why:   every value needs a name\n  fix:   write 'key: value' lines",
        ),
        (
            "a: 1\n--- \nb: 2\n",
            "several documents in one file\n  where: a.yaml:2:1\n"
            "  why:   a second document begins with this '---'\n  fix:   one file for each",
        ),
        (
            "a:\n\tb: 1\n",
            "a tab in the indentation\n  where: a.yaml:2:1\n  why:   YAML indents with spaces only\n"
            "  fix:   replace the tab by spaces",
        ),
        (
            "a: [1, 2\nb: 3\n",
            "not YAML: did not find expected ',' or ']'\n  where: a.yaml:2:2\n"
            "  why:   while parsing a flow sequence\n  fix:   close the bracket, or put a comma between two entries",
        ),
        (
            "a: b: c\n",
            "not YAML: mapping values are not allowed in this context\n  where: a.yaml:1:5\n"
            "  why:   the line reads: a: b: c\n"
            "  fix:   put text that holds ': ' in quotes, and check the indentation",
        ),
        (
            'a: "x\nb: 1\n',
            "not YAML: found unexpected end of stream\n  where: a.yaml:3:1\n  why:   while scanning a quoted scalar\n"
            "  fix:   check the brackets, colons and indentation around this line",
        ),
        (
            "a: @x\n",
            "not YAML: found character that cannot start any token\n  where: a.yaml:1:4\n"
            "  why:   while scanning for the next token\n  fix:   put text that begins with '@' in quotes",
        ),
        (
            "a: 1\nb: \x01\n",
            "a control character in the file\n  where: a.yaml:2:4\n  why:   YAML is plain text\n"
            "  fix:   remove the character",
        ),
        (
            "ok: 1\nname: caf\u00e9\n".encode("latin-1"),
            "the file is not UTF-8 text\n  where: a.yaml:2:10\n  why:   byte 0xe9 does not belong there\n"
            "  fix:   save it as UTF-8",
        ),
        (
            "a: *nothing\n",
            "*nothing stands for nothing\n  where: a.yaml:1:4\n"
            "  why:   no value before this line is marked with that name, or it contains this very line\n"
            "  fix:   mark a value with &nothing first",
        ),
        (
            "a: &x [*x]\n",
            "*x stands for nothing\n  where: a.yaml:1:8\n"
            "  why:   no value before this line is marked with that name, or it contains this very line\n"
            "  fix:   mark a value with &x first",
        ),
        (
            "? [a]\n: 1\n",
            "a key must be a name\n  where: a.yaml:1:3\n  why:   a list, mapping or alias cannot be one\n"
            "  fix:   write 'name: value'; check the brackets before this place",
        ),
        (
            "a: 1\n" + "#" * MAX_BYTES,
            "the file is too large for a config\n  where: a.yaml\n"
            "  why:   262,149 bytes, and at most 262,144 are read\n"
            "  fix:   split it into groups, or check that this is the file you mean",
        ),
    ],
)
def test_cannot_go_on(text: str | bytes, message: str) -> None:
    assert stopped(text) == message


def test_deep_brackets_and_alias_bombs_are_refused_at_once() -> None:
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    bomb += "".join(f"{k}: &{k} [{', '.join([f'*{chr(ord(k) - 1)}'] * 9)}]\n" for k in "bcdefghij")
    begin = time.perf_counter()
    # Some versions of PyYAML look further ahead than others, and stop there by themselves.
    deep = stopped("a: " + "[" * 100_000)
    assert deep.replace(":1003\n", ":35\n") == (
        "nested too deeply\n  where: a.yaml:1:35\n  why:   more than 32 levels of brackets or indentation\n"
        "  fix:   check the brackets; no config needs that many"
    )
    assert stopped(bomb) == (
        "more than 20,000 values\n  where: a.yaml:5:12\n  why:   aliases multiply what they stand for\n"
        "  fix:   write the values out, or fewer of them"
    )
    assert time.perf_counter() - begin < 1
    assert MAX_DEPTH == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nb: 2\na: 3\n",
            "'a' is given twice\n  where: a.yaml:3:1 (a)\n  why:   it already stands in line 1\n"
            "  fix:   remove or rename one of them",
        ),
        (
            "conv1: {bias: yes}\n",
            "conv1.bias cannot be yes\n  where: a.yaml:1:15 (conv1.bias)\n"
            "  why:   YAML 1.1 reads yes as true, YAML 1.2 as text\n"
            "  fix:   true, or in quotes where text is meant: 'yes'",
        ),
        (
            "a: !!python/object/apply:os.system [x]\n",
            "YAML tag '!!python/object/apply:os.system' is not allowed\n  where: a.yaml:1:4 (a)\n"
            "  why:   configs are plain text, numbers, lists and mappings, and never name Python objects\n"
            "  fix:   remove the tag",
        ),
        (
            "a: {_target_: os.system}\n",
            "'_target_' is not allowed\n  where: a.yaml:1:5 (a._target_)\n"
            "  why:   configs never name Python objects, so that a stranger's config can fail but never run code\n"
            "  fix:   say what you mean with 'type:'",
        ),
        (
            "a: ${oc.env:HOME}\n",
            "'${oc.env:HOME}' is not allowed\n  where: a.yaml:1:4 (a)\n"
            "  why:   only plain references such as ${model.name} are part of the language; resolvers could read the "
            "machine\n"
            "  fix:   write the value out, or refer to another key by its path from the root",
        ),
        (
            "a: &x {k: 1}\nb: {<<: *x}\n",
            "merge keys (<<) are not part of the language\n  where: a.yaml:2:5 (b.<<)\n"
            "  why:   a layer stands for itself\n  fix:   write the keys out",
        ),
    ],
)
def test_goes_on_after(text: str, message: str) -> None:
    assert found(text) == [message]


def test_every_mistake_of_one_text() -> None:
    assert len(found("a: yes\na: 012\nb: {_target_: x}\nc: !x 1\n")) == 5


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.sampled_from(["lenet", "a b", "012", "yes", "1:30", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "conv1"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, min_size=1), st.booleans())
def test_reads_what_a_yaml_writer_writes_and_marks_each_key(tree: dict[str, object], flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True, width=30)
    document = scan(text.encode(), "a.yaml")
    assert document.tree == tree
    lines = text.split("\n")
    for path, mark in document.marks.items():
        if isinstance(path[-1], str):
            assert lines[mark.line - 1][mark.column - 1 :].lstrip("? ").startswith(path[-1])


@settings(max_examples=150)
@given(st.text(alphabet=st.sampled_from(list("ab:-[]{}#&*!|>'\"%@`, \n\t?${}01e.\x00é")), max_size=40))
def test_any_text_gives_a_document_or_located_errors(text: str) -> None:
    try:
        errors: tuple[CnnforgeError, ...] = tuple(f.error(()) for f in scan(text.encode(), "a.yaml").findings)
    except ConfigErrors as stopped:
        errors = stopped.errors
    assert all(error.where.startswith("a.yaml") and error.why and error.fix for error in errors)
