"""Templates and repetitions: what they become, what is said of wrong ones, and that hostile ones end soon."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cnnforge.config import read_model, validate_model
from cnnforge.errors import ConfigErrors
from cnnforge.spec import ModelSpec, expand, layer_of

HEAD = "name: net\ninput: [16, 16, 3]\n"
RELU = "{type: activation, function: relu}"


def model(text: str) -> ModelSpec:
    return validate_model(read_model(HEAD + text))


def errors(text: str) -> list[str]:
    try:
        model(text)
    except ConfigErrors as found:
        return [str(error) for error in found.errors]
    return []


def rows(text: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(row.name, row.output) for row in model(text).table]


class TestWhatTheyBecome:
    def test_layers_stand_under_the_layers_name(self):
        text = (
            "templates:\n  two:\n    parameters: {n: int}\n    layers:\n      a: {type: conv, filters: =n, kernel: 1}\n"
            "      b: {type: pool, kernel: 2}\nlayers:\n  x: {type: two, n: 4}\n  y: {type: two, n: 8}\n"
        )
        assert rows(text) == [("x.a", (16, 16, 4)), ("x.b", (8, 8, 4)), ("y.a", (8, 8, 8)), ("y.b", (4, 4, 8))]

    def test_a_block_is_the_layer_itself(self):
        text = "templates:\n  one: {block: {type: conv, filters: 2, kernel: 1}}\nlayers:\n  x: {type: one}\n"
        assert rows(text) == [("x", (16, 16, 2))]

    def test_parameters_of_every_type(self):
        text = (
            "templates:\n  t:\n    parameters:\n      n: int\n      k: size = [3, 1]\n      bias: bool = false\n"
            "      f: text = tanh\n      p: float = 0.5\n"
            "    layers:\n      c: {type: conv, filters: =n, kernel: =k, bias: =bias, activation: =f}\n"
            "      d: {type: dropout, rate: =p}\nlayers:\n  x: {type: t, n: 4}\n"
            "  y: {type: t, n: 2, k: 5, bias: true, p: 0}\n"
        )
        conv, drop, other, kept = (row.block for row in model(text).table)
        assert (conv.kernel, conv.bias, conv.activation, drop.rate) == ((3, 1), False, "tanh", 0.5)
        assert (other.kernel, other.bias, kept.rate) == (5, True, 0)

    def test_repetitions_count_from_one_and_the_first_may_differ(self):
        text = (
            "layers:\n  x: {type: repeat, times: 3, block: {type: conv, filters: =4 * index, kernel: 1}, "
            "first: {stride: 2}}\n"
        )
        assert rows(text) == [("x.1", (8, 8, 4)), ("x.2", (8, 8, 8)), ("x.3", (8, 8, 12))]

    def test_no_repetition_leaves_the_layer_out(self):
        text = f"layers:\n  x: {{type: repeat, times: 0, block: {RELU}}}\n  y: {RELU}\n"
        assert [name for name, _ in rows(text)] == ["y"]

    def test_a_parameter_may_say_how_often(self):
        text = (
            "templates:\n  t: {parameters: {n: int}, block: {type: repeat, times: =n, block: " + RELU + "}}\n"
            "layers:\n  x: {type: t, n: 2}\n"
        )
        assert [name for name, _ in rows(text)] == ["x.1", "x.2"]

    def test_names_of_outer_templates_are_not_seen(self):
        text = (
            "templates:\n  inner: {parameters: {m: int}, block: {type: conv, filters: =n, kernel: 1}}\n"
            "  outer: {parameters: {n: int}, block: {type: inner, m: =n}}\nlayers:\n  x: {type: outer, n: 3}\n"
        )
        (error,) = errors(text)
        assert error == (
            "templates.inner: '=n' cannot be worked out\n"
            "  where: <text>:4:53 (templates.inner.block.filters)\n"
            "  why:   nothing is called 'n' here; names are m\n"
            "  fix:   name it under templates.inner.parameters"
        )

    def test_records_keep_the_short_form(self):
        text = f"templates:\n  t: {{block: {RELU}}}\nlayers:\n  x: {{type: t}}\n"
        assert model(text).model_dump()["layers"] == {"x": {"type": "t"}}

    def test_paths_lead_to_the_innermost_layer(self):
        within = ("model", "layers", "x", "branches", "left", "a", "layers", "2", "kernel")
        assert layer_of(within) == ("x.left.a.2", 8)
        assert layer_of(("model", "layers")) == ("", 0)
        assert layer_of(("optimizer", "lr")) == ("", 0)

    def test_the_model_itself_is_not_changed(self):
        tree: dict[str, Any] = {"layers": {"x": {"type": "repeat", "times": 2, "block": {"type": "flatten"}}}}
        assert list(expand(tree).tree["layers"]["x"]["layers"]) == ["1", "2"]
        assert tree["layers"]["x"]["times"] == 2


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{}",
            "templates.t: it has neither layers nor a block\n  where: <text>:4:3 (templates.t)\n"
            "  why:   a template stands for layers or for one block\n  fix:   add one of them",
        ),
        (
            "{block: {type: flatten}, layers: {}}",
            "templates.t: it has layers and a block\n  where: <text>:4:3 (templates.t)\n"
            "  why:   a template stands for layers or for one block\n  fix:   keep one of them",
        ),
        (
            "{block: {type: flatten}, parameters: {index: int}}",
            "templates.t: a parameter cannot be called 'index'\n  where: <text>:4:44 (templates.t.parameters.index)\n"
            "  why:   type, after, input and index mean something everywhere\n  fix:   another name",
        ),
        (
            "{block: {type: flatten}, parameters: {a: integer}}",
            "templates.t: parameters.a cannot be 'integer'\n  where: <text>:4:44 (templates.t.parameters.a)\n"
            "  why:   text is not a type (int, float, bool, text or size) and a default where it has one, such as "
            "int = 3\n"
            "  fix:   a type (int, float, bool, text or size) and a default where it has one, such as int = 3",
        ),
        (
            "{block: {type: flatten}, parameters: {a: int = x}}",
            "templates.t: a cannot be x\n  where: <text>:4:44 (templates.t.parameters.a)\n"
            "  why:   its type is int\n  fix:   a whole number",
        ),
        (
            "{block: {type: flatten}, parameters: {a: int}}",
            "x: 'a' is missing\n  where: <text>:6:3 (layers.x)\n  why:   t takes a\n  fix:   add 'a:', a whole number",
        ),
        (
            "flatten",
            "templates.t cannot be 'flatten'\n  where: <text>:4:3 (templates.t)\n"
            "  why:   text is not a mapping of parameters, layers, block\n"
            "  fix:   a mapping of parameters, layers, block",
        ),
        (
            "{block: flatten}",
            "templates.t: block cannot be 'flatten'\n  where: <text>:4:7 (templates.t.block)\n"
            "  why:   text is not a mapping\n  fix:   a mapping",
        ),
        (
            "{blok: {type: flatten}}",
            "templates.t: unknown key 'blok'\n  where: <text>:4:7 (templates.t.blok)\n"
            "  why:   a template knows parameters, layers, block\n  fix:   did you mean 'block'?",
        ),
        (
            "{block: {type: t}}",
            "templates.t: it uses itself\n  where: <text>:4:15 (templates.t.block.type)\n"
            "  why:   t -> t\n  fix:   another type here: what uses itself never ends",
        ),
        (
            "{block: {type: conv, filters: =16 // 32, kernel: 1}}",
            "x: filters cannot be 0\n  where: <text>:4:27 (templates.t.block.filters), used at <text>:6:3 (layers.x)\n"
            "  why:   0 is not above 0\n  fix:   a whole number above 0",
        ),
    ],
)
def test_the_texts_about_a_template(template: str, said: str) -> None:
    assert errors(f"templates:\n  t: {template}\nlayers:\n  x: {{type: t}}\n") == [said]


USED = (
    "templates:\n  t: {parameters: {n: int, r: int = 4}, block: {type: conv, filters: =n // r, kernel: 1}}\nlayers:\n"
)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (
            "{type: t, n: 3}",
            "x: filters cannot be 0\n  where: <text>:6:16 (layers.x.n), =n // r with n = 3, r = 4\n"
            "  why:   0 is not above 0\n  fix:   a whole number above 0",
        ),
        (
            "{type: t, n: three}",
            "x: n cannot be 'three'\n  where: <text>:6:16 (layers.x.n)\n  why:   the template says n: int\n"
            "  fix:   a whole number",
        ),
        (
            "{type: t, n: null}",
            "x: n cannot be null\n  where: <text>:6:16 (layers.x.n)\n  why:   the template says n: int\n"
            "  fix:   a whole number",
        ),
        (
            "{type: t, n: 8, rr: 2}",
            "x: unknown key 'rr'\n  where: <text>:6:22 (layers.x.rr)\n  why:   t takes n, r\n"
            "  fix:   did you mean 'r'?",
        ),
        (
            "{type: t, n: =2 * width}",
            "x: '=2 * width' cannot be worked out\n  where: <text>:6:16 (layers.x.n)\n"
            "  why:   nothing is called 'width' here\n"
            "  fix:   a number; names belong into templates, whose parameters they are",
        ),
        (
            "{type: repeat, times: 1000000000, block: {type: t, n: 4}}",
            "x: times cannot be 1000000000\n  where: <text>:6:21 (layers.x.times)\n"
            "  why:   a network has at most 20,000 blocks\n  fix:   fewer repetitions",
        ),
    ],
)
def test_the_texts_about_a_use(use: str, said: str) -> None:
    assert errors(f"{USED}  x: {use}\n") == [said]


def test_a_templates_name_is_its_own() -> None:
    assert errors(f"templates:\n  conv: {{block: {RELU}}}\nlayers:\n  x: {RELU}\n") == [
        "templates.conv: a block has this name already\n  where: <text>:4:3 (templates.conv)\n"
        "  why:   a template's name is a new type\n  fix:   another name"
    ]


class TestHostile:
    """Nothing that a file may hold takes long or ends in an exception."""

    def said(self, text: str) -> list[str]:
        start = time.process_time()
        found = errors(text)
        # Half of it on a machine of 2026; the limits hold it there, and without them it would not end.
        assert time.process_time() - start < 5
        return [error.partition("\n")[0] for error in found]

    def chain(self, length: int, use: str) -> str:
        """Templates t0, t1, … of which each uses the next as ``use`` says."""
        lines = [f"  t{i}: {use.replace('NEXT', f't{i + 1}')}" for i in range(length)]
        return "\n".join(["templates:", *lines, f"  t{length}: {{block: {RELU}}}", "layers:", "  x: {type: t0}", ""])

    def test_each_template_uses_the_next_one_twice(self):
        text = self.chain(25, "{layers: {a: {type: NEXT}, b: {type: NEXT}}}")
        assert self.said(text) == ["templates make more than 20,000 blocks"]

    def test_each_template_repeats_the_next_one_a_thousand_times(self):
        text = self.chain(9, "{block: {type: repeat, times: 1000, block: {type: NEXT}}}")
        assert self.said(text) == ["templates make more than 20,000 blocks"]

    @pytest.mark.parametrize("use", ["{block: {type: NEXT}}", "{layers: {a: {type: NEXT}}}"])
    def test_a_long_chain(self, use):
        (what,) = self.said(self.chain(400, use))
        assert what.endswith("templates are nested too deeply")
        assert self.said(self.chain(20, use)) == []

    def test_a_circle_is_one_mistake(self):
        text = (
            "templates:\n  a: {layers: {x: {type: b}}}\n  b: {block: {type: a}}\n"
            "layers:\n  x: {type: a}\n  y: {type: b}\n  z: {type: a}\n"
        )
        assert self.said(text) == ["templates.a: it uses itself"]

    @pytest.mark.parametrize("templates", ["[]", "3", "null", "text", "{3: {}}", "{null: {}}", "{t: 3}", "{t: null}",
        "{t: {parameters: {3: int}}}", "{t: {parameters: [a]}}", "{t: {layers: {3: {}}}}", "{t: {block: {3: 4}}}",
        "{t: {block: {type: =x}}}", "{t: {block: {type: [t]}}}", "{t: {block: {type: branches, branches: {3: {}}}}}",
        "{t: {layers: {a: =x, b: [=x], c: null}}}", "{t: {parameters: {a: int = [1}, block: {}}}"])  # fmt: skip
    def test_odd_templates(self, templates):
        assert all(self.said(f"templates: {templates}\nlayers:\n  x: {{type: t}}\n"))

    @pytest.mark.parametrize("layer", ["=x", "[=x]", "{type: =x}", "{type: =3}", "{type: branches, branches: {3: {}}}",
        "{type: branches, branches: {a: 3}}", "{type: branches, branches: {a: {b: =x}}}",
        "{type: sequence, layers: [1]}",
        "{type: repeat, times: 2, block: {3: 1}}", "{type: repeat, times: =x, block: {}}",
        "{type: repeat, times: []}",
        "{type: repeat, times: 2, block: {type: repeat, times: 2, block: {type: repeat}}}",
        "{type: repeat, times: 2, block: {type: flatten}, first: {3: 4}}",
        "{type: repeat, block: {type: flatten}, frist: 1}",
        "{type: residual, layers: {}}", "{type: branches, branches: {}}"])  # fmt: skip
    def test_odd_layers(self, layer):
        assert self.said(f"layers:\n  x: {layer}\n")

    def test_thousands_of_layers(self):
        layers = "".join(f"  l{i}: {RELU}\n" for i in range(3000))
        assert self.said(f"layers:\n{layers}") == []

    def test_deep_brackets_are_refused_before_anything_is_built(self):
        text = "layers: {x: " + "{type: sequence, layers: {a: " * 100 + RELU + "}}" * 100 + "}\n"
        assert self.said(text) == ["nested too deeply"]
