"""Pictures and their edges, and nine numbers that are learned back from them."""

import io

import numpy as np
import pytest

import cnnforge
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.data import load
from cnnforge.init import FILTERS
from cnnforge.train.run import run


@pytest.mark.parametrize("name", FILTERS)
def test_labels_are_what_the_filter_gives(name):
    data = load(validate(compose(["model=edge_learner", "data=edges", f"data.filter={name}"])).data, (8, 8, 1), 0)
    model = cnnforge.Model({"name": "f", "input": [8, 8, 1], "layers": {
        "edges": {"type": "conv", "filters": 1, "kernel": 3, "init": {"filter": name}, "bias": False}}})  # fmt: skip
    np.testing.assert_allclose(model.forward(data.train.x[:50]), data.train.y[:50], atol=1e-5)


def test_gradient_descent_finds_sobels_numbers(tmp_path):
    """The course's claim: a filter need not be thought of by hand."""
    spec = validate(compose(["experiment=learn_edge_filter", f"run.dir={tmp_path}", "tracking=none"]))
    folder, result = run(spec, PlainConsole(io.StringIO()))
    learned = cnnforge.Model.load(folder).params["edges.w"][:, :, 0, 0]
    wanted = np.array(FILTERS["sobel_vertical"])
    assert ((learned - wanted) ** 2).mean() < 1e-6
    assert result["test_loss"] < 1e-6
