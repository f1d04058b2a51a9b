"""References within a config."""

from __future__ import annotations

from cnnforge.config.interpolate import resolve, unsupported


def errors(tree: dict[str, object]) -> list[str]:
    return [str(error) for error in resolve(tree)[1]]


def test_whole_values_keep_their_type_and_text_is_filled_in() -> None:
    tree = {"n": 3, "list": "${a.b}", "a": {"b": [1, "${n}"]}, "name": "net-${n}-${ok}", "ok": True, "i": "${a.b.1}"}
    assert resolve(tree) == (
        {"n": 3, "list": [1, 3], "a": {"b": [1, 3]}, "name": "net-3-true", "ok": True, "i": 3},
        [],
    )


def test_a_reference_to_nothing() -> None:
    assert errors({"model": {"name": "x"}, "run": "${model.nam}"}) == [
        "run: ${model.nam} refers to nothing\n  where: run\n  why:   there is no 'nam' among name\n"
        "  fix:   did you mean 'name'?"
    ]


def test_circles() -> None:
    assert errors({"a": "${b}", "b": "x${a}"})[0] == (
        "a: ${b} refers to itself\n  where: a\n  why:   a -> b -> a -> b\n  fix:   write the value out in one place"
    )
    assert "refers to itself" in errors({"a": ["${a}"]})[0]
    assert "refers to itself" in errors({"a": {"b": "${a}"}})[0]


def test_references_that_multiply_are_cut_off() -> None:
    doubling: dict[str, object] = {f"v{i}": f"${{v{i + 1}}}${{v{i + 1}}}" for i in range(30)} | {"v30": "x"}
    chain: dict[str, object] = {f"v{i}": f"${{v{i + 1}}}" for i in range(400)} | {"v400": "x"}
    for tree in (doubling, chain):
        (message,) = errors(tree)
        assert "references lead on and on" in message


def test_what_must_be_given() -> None:
    assert errors({"data": {"path": "???"}}) == [
        "data.path must be given\n  where: data.path\n  why:   the file leaves it open with ???\n  fix:   data.path=…"
    ]


def test_only_plain_references() -> None:
    assert unsupported("a ${model.name} b") is None
    for text in ("${oc.env:HOME}", "${.name}", "${..x}", "${}", "${a", "${a.${b}}", "${x:y}"):
        assert unsupported(text) is not None, text
