"""YAML that is written reads back as the same values, through our own reader."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.config import read_run, to_yaml, validate
from cnnforge.config.scan import scan
from cnnforge.spec import RunSpec

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12).filter(
    lambda t: "${" not in t
)
TRICKY = st.sampled_from(
    ["yes", "012", "1e-3", "1:30", "null", "true", "", "~", "0x1f", "a: b", "- x", "#", "<<", " a "]
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, width=32) | TEXTS | TRICKY
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["a", "b"]), VALUES, min_size=1))
def test_reads_back(tree: dict[str, object]) -> None:
    document = scan(to_yaml(tree).encode(), "a.yaml")
    assert document.tree == tree
    assert document.findings == ()


def test_a_resolved_run_reads_back(lenet_run: RunSpec) -> None:
    tree = lenet_run.model_dump(mode="json")
    assert validate(read_run(to_yaml(tree))) == lenet_run


def test_layout() -> None:
    text = to_yaml(
        {
            "name": "lenet",
            "input": [32, 32, 3],
            "layers": {"c": {"type": "conv", "padding": "same"}},
            "lr": 1e-3,
            "n": "012",
        }
    )
    assert text == "name: lenet\ninput: [32, 32, 3]\nlayers:\n  c: {type: conv, padding: same}\nlr: 0.001\nn: '012'\n"
