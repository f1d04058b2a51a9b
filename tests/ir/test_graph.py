"""Values, nodes and what holds a graph together."""

import pytest

from cnnforge.ir.graph import DTYPE_BYTES, Graph
from cnnforge.ir.verify import verify


@pytest.fixture
def g() -> Graph:
    graph = Graph(4, "float32", training=True)
    graph.scope = "layer"
    return graph


def param(g: Graph, name="w", shape=(3, 3), trainable=True):
    return g.param(name, shape, None, trainable, (1, 1))


def test_values_know_their_size(g):
    assert g.input("x", (2, 3)).nbytes == 4 * 2 * 3 * 4
    assert g.act("mask", (5,), dtype="bool").nbytes == 20
    assert g.value("v", (), "act").nbytes == 4
    assert g.sample_shape(g.inputs["x"]) == (2, 3)


def test_every_dtype_has_numpys_size():
    import ml_dtypes  # noqa: F401 - NumPy then knows bfloat16
    import numpy as np

    assert {name: np.dtype(name).itemsize for name in DTYPE_BYTES} == dict(DTYPE_BYTES)


def test_names_say_the_layer(g):
    assert param(g).name == "layer.w"
    assert g.running("mean", (3,), 0.5).name == "layer.mean"
    assert g.state["layer.mean"][1] == 0.5
    assert repr(g.act("y", (3,))) == "layer.y:float32[4, 3]"
    assert g.like(g.params["layer.w"].value).name == "d(layer.w)"


def test_there_is_one_step_block(g):
    assert g.step() is g.step()
    assert g.step().dtype == "float64"


def test_values_are_themselves_whatever_they_hold(g):
    assert g.act("y", (3,)) != g.act("y", (3,))
    assert len({g.act("y", (3,)), g.act("y", (3,))}) == 2


class TestVerify:
    def test_a_sound_graph(self, g):
        x = g.input("x", (3,))
        g.outputs["output"] = g.emit("matmul", x, param(g), out=(3,))
        verify(g)

    def refuses(self, g, match):
        with pytest.raises(AssertionError, match=match):
            verify(g)

    def test_reading_what_is_not_written_yet(self, g):
        g.emit("relu", g.act("never", (3,)), out=(3,))
        self.refuses(g, "before it is written")

    def test_the_order_is_that_of_the_phases(self, g):
        g.phase = "backward"
        y = g.emit("relu", g.input("x", (3,)), out=(3,))
        g.phase = "forward"
        g.emit("relu", y, out=(3,))
        self.refuses(g, "before it is written")

    def test_writing_twice(self, g):
        x, y = g.input("x", (3,)), g.act("y", (3,))
        g.node("relu", (x,), (y,))
        g.node("tanh", (x,), (y,))
        self.refuses(g, "a second time")

    def test_writing_a_parameter(self, g):
        g.node("relu", (g.input("x", (3,)),), (param(g),))
        self.refuses(g, "writes parameter")

    def test_a_value_without_its_batch_axis(self, g):
        y = g.value("y", (3, 4), "act", batched=True)
        g.node("relu", (g.input("x", (3,)),), (y,))
        self.refuses(g, "begin with the batch")

    def test_a_gradient_of_another_shape(self, g):
        w = param(g)
        g.grads[w.name] = g.value("dw", (3, 2), "grad")
        self.refuses(g, r"gradient of layer\.w is \(3, 2\)")

    def test_a_gradient_of_frozen_weights(self, g):
        w = param(g, trainable=False)
        g.grads[w.name] = g.like(w, kind="grad")
        self.refuses(g, "is frozen and has a gradient")

    def test_an_output_that_never_comes(self, g):
        g.outputs["loss"] = g.act("loss", ())
        self.refuses(g, "output loss is never written")
