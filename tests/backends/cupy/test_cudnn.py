"""What is asked of cuDNN's frontend, by one that is not there: it cannot say that the real one does it so.

What the real one plans for a card that is not there is in test_cudnn_plans.py.
"""

import sys

import pytest

from cnnforge.backends.cupy.convolution import describe
from cnnforge.backends.cupy.cudnn import Cudnn, Graph
from cnnforge.shapes import window


class Names:
    """``names.ANYTHING`` is its own name."""

    def __getattr__(self, name):
        return name


class Tensor:
    def __init__(self, name):
        self.name, self.said = name, {}

    def __getattr__(self, name):
        assert name.startswith("set_")

        def say(value):
            self.said[name[4:]] = value
            return self

        return say


class NotSupportedError(Exception):
    pass


class Frontend:
    """The parts of the module that are used.

    plans: name -> bytes of workspace; those that begin with ``!`` are not allowed
    """

    def __init__(self, plans=(("eng0", 100),), refuses=False):
        self.plans, self.refuses = list(plans), refuses
        self.data_type, self.numerical_note, self.behavior_note, self.heur_mode = (Names() for _ in range(4))
        self.asked, self.built, self.graphs, self.executed = [], [], [], []

    def create_handle(self):
        return "handle"

    def set_stream(self, handle, stream):
        self.asked.append(("set_stream", handle, stream))

    def pygraph(self, **types):
        front = self

        class Graph:
            def __init__(self):
                self.types, self.calls, self.tensors = types, [], {}

            def tensor(self, name, dim, stride, data_type, uid):
                self.tensors[name] = (uid, dim, stride, data_type)
                return name

            def _call(self, op, given):
                self.calls.append((op, given))
                self.out = Tensor(op)
                return self.out

            def conv_fprop(self, **given):
                return self._call("conv_fprop", given)

            def conv_dgrad(self, **given):
                return self._call("conv_dgrad", given)

            def conv_wgrad(self, **given):
                return self._call("conv_wgrad", given)

            def add(self, a, b):
                return self._call("add", (a.name, a.said, b))

            def bias(self, input, bias):
                return self._call("bias", (input.name, input.said, bias))

            def relu(self, input):
                return self._call("relu", (input.name, input.said))

            def validate(self):
                front.asked.append("validate")

            def build_operation_graph(self):
                front.asked.append("build_operation_graph")

            def create_execution_plans(self, modes):
                if front.refuses:
                    raise NotSupportedError("no engine")
                front.asked.append(("plans", modes))

            def deselect_numeric_notes(self, notes):
                front.asked.append(("numeric", set(notes)))

            def deselect_behavior_notes(self, notes):
                front.asked.append(("behavior", notes))

            def deselect_workspace_greater_than(self, limit):
                front.asked.append(("workspace", limit))

            def get_execution_plan_count(self):
                return len(front.plans)

            def get_plan_name_at_index(self, index):
                return front.plans[index][0].lstrip("!")

            def get_workspace_size_plan_at_index(self, index):
                return front.plans[index][1]

            def build_plan_at_index(self, index):
                if front.plans[index][0].startswith("!"):
                    raise NotSupportedError("deselected")
                front.built.append(index)

            def execute_plan_at_index(self, pointers, space, index, handle):
                front.executed.append((pointers, space, index, handle))

        self.graphs.append(Graph())
        return self.graphs[-1]


WINDOW = window((9, 8), (3, 2), (2, 1), (1, 0, 2, 1))
X, W, Y = (2, 9, 8, 4), (3, 2, 4, 6), (2, *WINDOW.out, 6)
SIZES = {"pre_padding": [1, 2], "post_padding": [0, 1], "stride": [2, 1], "dilation": [1, 1]}


def described(op="conv2d", dtype="float32", tf32=False, epilogue=()):
    return describe(op, X, W, Y, WINDOW, dtype, tf32, epilogue)


def graph(front=None, **how):
    front = front or Frontend()
    made = Graph(front, described(**how), 1000, "handle")
    return made, front, front.graphs[-1]


@pytest.mark.parametrize(
    ("op", "call", "given", "written"),
    [
        ("conv2d", "conv_fprop", {"image": "x", "weight": "w"}, "y"),
        ("conv2d_dx", "conv_dgrad", {"loss": "y", "filter": "w"}, "x"),
        ("conv2d_dw", "conv_wgrad", {"image": "x", "loss": "y"}, "w"),
    ],
)
def test_what_is_wanted(op, call, given, written):
    _, front, asked = graph(op=op)
    assert asked.calls == [(call, {**given, **SIZES})]
    operands = described(op).operands
    for uid, (role, layout) in enumerate(operands[:-1], 1):
        assert asked.tensors[role] == (uid, list(layout.dims), list(layout.strides), "FLOAT")
    assert operands[-1][0] == written
    out = operands[-1][1]
    assert asked.out.said == {
        "output": True, "uid": 3, "data_type": "FLOAT", "dim": list(out.dims), "stride": list(out.strides),
    }  # fmt: skip
    assert asked.types == {
        "io_data_type": "FLOAT", "intermediate_data_type": "FLOAT", "compute_data_type": "FLOAT", "handle": "handle",
    }  # fmt: skip
    assert front.asked[:3] == ["validate", "build_operation_graph", ("plans", ["A", "FALLBACK"])]
    assert front.asked[4:] == [("behavior", ["RUNTIME_COMPILATION"]), ("workspace", 1000)]


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", "BFLOAT16"), ("float16", "HALF")])
def test_half_types_are_added_up_in_float32(dtype, name):
    _, _, asked = graph(dtype=dtype)
    assert (asked.types["io_data_type"], asked.types["compute_data_type"]) == (name, "FLOAT")
    assert {tensor[3] for tensor in asked.tensors.values()} == {name}
    assert asked.out.said["data_type"] == name


CUT = {"TENSOR_CORE", "DOWN_CONVERT_INPUTS"}


@pytest.mark.parametrize(
    ("how", "cut"), [({}, True), ({"tf32": True}, False), ({"dtype": "bfloat16"}, False), ({"dtype": "float16"}, False)]
)
def test_plans_that_are_not_allowed(how, cut):
    """float32 without TF32 has no tensor cores; sums are float32's, and in one order, always."""
    _, front, _ = graph(**how)
    ((_, notes),) = [said for said in front.asked if said[0] == "numeric"]
    assert {"NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "FFT", "WINOGRAD", "WINOGRAD_TILE_13x13"} <= notes
    assert (notes & CUT == CUT) is cut
    assert cut or not notes & CUT


def test_what_follows_in_the_same_kernel():
    _, _, asked = graph(epilogue=("add", "bias", "relu"))
    single = {"data_type": "FLOAT"}
    assert asked.calls[1:] == [
        ("add", ("conv_fprop", single, "add")), ("bias", ("add", single, "bias")), ("relu", ("bias", single)),
    ]  # fmt: skip
    assert asked.tensors["bias"] == (4, [1, 6, 1, 1], [6, 1, 6, 6], "FLOAT")
    assert asked.tensors["add"][0] == 3
    assert asked.out.name == "relu"
    assert asked.out.said["uid"] == 5


def test_plans_are_counted_without_those_that_are_not_allowed():
    front = Frontend([("!eng9", 0), ("eng3", 5), ("frost_conv", 0), ("!eng4", 0), ("eng3_k1=2", 7), ("eng0", 9)])
    made, _, _ = graph(front)
    assert not front.built
    assert (made.plan(0), front.built) == (1, [1])
    assert (made.plan(2), front.built) == (5, [1, 4, 5])
    assert made.plan(1) == 4
    assert made.plan(3) is None
    assert (made.name(4), made.workspace(4)) == ("eng3_k1=2", 7)


def test_a_card_that_is_not_there():
    front = Frontend()
    Graph(front, described(), 1000, None, "properties")
    assert front.graphs[0].types["device_property"] == "properties"
    assert "handle" not in front.graphs[0].types


@pytest.fixture
def front(monkeypatch):
    front = Frontend([("eng1", 5), ("eng2", 6)])
    monkeypatch.setitem(sys.modules, "cudnn", front)
    return front


class TestLibrary:
    def test_calls_go_over_the_stream_with_addresses_by_uid(self, front):
        library = Cudnn(17)
        assert front.asked == [("set_stream", "handle", 17)]
        call = library.convolution(described(), 1, (10, 20, 30), (99, 1000))
        assert not front.executed
        call()
        call()
        assert front.executed == [({1: 10, 2: 20, 3: 30}, 99, 1, "handle")] * 2

    def test_a_graph_is_made_once(self, front):
        library = Cudnn(17)
        for number, addresses in ((0, (1, 2, 3)), (1, (4, 5, 6)), (0, (7, 8, 9))):
            library.convolution(described(), number, addresses, (99, 1000))()
        assert len(front.graphs) == 1
        assert [executed[0][1] for executed in front.executed] == [1, 4, 7]
        library.convolution(described(), 0, (1, 2, 3), (99, 500))
        assert len(front.graphs) == 2, "another workspace, other plans"

    def test_no_such_plan(self, front):
        library = Cudnn(17)
        assert library.convolution(described(), 2, (1, 2, 3), (99, 1000)) is None
        front.refuses = True
        assert library.convolution(described("conv2d_dx"), 0, (1, 2, 3), (99, 1000)) is None
        assert library.convolution(described("conv2d_dx"), 1, (1, 2, 3), (99, 1000)) is None
        assert len(front.graphs) == 2, "what it refused once it is not asked again"
