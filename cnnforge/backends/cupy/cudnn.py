"""cuDNN's convolutions through its frontend: the only file that imports it.

A graph says what is wanted, a plan by what kernel. cuDNN lists plans, those it takes for the fastest first. Of them we
allow those that give the same bits in every run, cut no mantissas that nobody asked to cut, transform nothing
(Winograd, Fourier), and are compiled already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from cnnforge.backends.cupy.convolution import Convolution, Layout

#: A plan of cuDNN itself. The frontend has engines of its own, which compile themselves by other packages.
_PLAN = re.compile(r"eng\d+")


class Graph:
    """One convolution, and its allowed plans in cuDNN's order, built when they are first asked for.

    limit:  bytes of workspace that a plan may want
    device: ``cudnn.create_device_properties(…)``, to plan for a card that is not there; None: ``handle``'s
    """

    def __init__(self, cudnn: Any, how: Convolution, limit: int, handle: Any, device: Any = None) -> None:
        """Raises cuDNN's errors where it has no plan at all."""
        self._cudnn, self._handle = cudnn, handle
        types, single = cudnn.data_type, cudnn.data_type.FLOAT
        dtype = {"float32": single, "bfloat16": types.BFLOAT16, "float16": types.HALF}[how.dtype]
        there = {"handle": handle} if device is None else {"device_property": device}
        self._graph = cudnn.pygraph(
            io_data_type=dtype, intermediate_data_type=single, compute_data_type=single, **there
        )
        self._lower(how, dtype)
        self._graph.validate()
        self._graph.build_operation_graph()
        self._graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        self._graph.deselect_numeric_notes(self._unwanted(how))
        self._graph.deselect_behavior_notes([cudnn.behavior_note.RUNTIME_COMPILATION])
        self._graph.deselect_workspace_greater_than(limit)
        self._allowed, self._left = list[int](), iter(range(self._graph.get_execution_plan_count()))

    def _lower(self, how: Convolution, dtype: Any) -> None:
        """Operand i of ``how`` has the uid i + 1."""
        graph, (*read, written) = self._graph, how.operands

        def tensor(uid: int, role: str, layout: Layout) -> Any:
            dims, strides = list(layout.dims), list(layout.strides)
            return graph.tensor(name=role, dim=dims, stride=strides, data_type=dtype, uid=uid)

        given = {role: tensor(uid, role, layout) for uid, (role, layout) in enumerate(read, 1)}
        window = {
            "pre_padding": list(how.before), "post_padding": list(how.after), "stride": list(how.stride),
            "dilation": list(how.dilation),
        }  # fmt: skip
        if how.op == "conv2d_dx":
            out = graph.conv_dgrad(loss=given["y"], filter=given["w"], **window)
        elif how.op == "conv2d_dw":
            out = graph.conv_wgrad(image=given["x"], loss=given["y"], **window)
        else:
            out = graph.conv_fprop(image=given["x"], weight=given["w"], **window)
        for op in how.epilogue:
            out.set_data_type(self._cudnn.data_type.FLOAT)
            if op == "add":
                out = graph.add(a=out, b=given["add"])
            else:
                out = graph.bias(input=out, bias=given["bias"]) if op == "bias" else graph.relu(input=out)
        out.set_output(True).set_uid(len(how.operands)).set_data_type(dtype)
        out.set_dim(list(written[1].dims)).set_stride(list(written[1].strides))

    def _unwanted(self, how: Convolution) -> list[Any]:
        """What plans may not do."""
        note = self._cudnn.numerical_note
        never = [
            note.NONDETERMINISTIC, note.REDUCED_PRECISION_REDUCTION, note.FFT, note.WINOGRAD, note.WINOGRAD_TILE_4x4,
            note.WINOGRAD_TILE_6x6, note.WINOGRAD_TILE_13x13,
        ]  # fmt: skip
        exact = how.dtype == "float32" and not how.tf32
        return [*never, note.TENSOR_CORE, note.DOWN_CONVERT_INPUTS] if exact else never

    def plan(self, number: int) -> int | None:
        """The ``number``-th allowed plan as cuDNN counts them, built; None where there are not so many."""
        while len(self._allowed) <= number:
            index = next(self._left, None)
            if index is None:
                return None
            if not _PLAN.match(self._graph.get_plan_name_at_index(index)):
                continue
            try:
                self._graph.build_plan_at_index(index)
            except Exception:  # not allowed, or not for this card: cuDNN says both in several ways
                continue
            self._allowed.append(index)
        return self._allowed[number]

    def name(self, index: int) -> str:
        """What cuDNN calls a plan."""
        return str(self._graph.get_plan_name_at_index(index))

    def workspace(self, index: int) -> int:
        """Bytes that a built plan wants."""
        return int(self._graph.get_workspace_size_plan_at_index(index))

    def run(self, index: int, pointers: dict[int, int], space: int) -> None:
        """pointers: addresses by uid;  space: the workspace's"""
        self._graph.execute_plan_at_index(pointers, space, index, self._handle)


class Cudnn:
    """A handle on one stream, and the graphs that were asked for."""

    def __init__(self, stream: int) -> None:
        """``stream``: its address. Raises whatever a library raises that is not there or too old."""
        import cudnn

        self._cudnn = cudnn
        self._handle = cudnn.create_handle()
        cudnn.set_stream(handle=self._handle, stream=stream)
        self._graphs: dict[tuple[Convolution, int], Graph | None] = {}

    def convolution(
        self, how: Convolution, number: int, addresses: Sequence[int], space: tuple[int, int]
    ) -> Callable[[], None] | None:
        """A call with these addresses by the ``number``-th plan; None where there is none.

        space: the workspace's address and its bytes
        """
        at, limit = space
        if (how, limit) not in self._graphs:
            self._graphs[how, limit] = self._made(how, limit)
        graph = self._graphs[how, limit]
        index = None if graph is None else graph.plan(number)
        if graph is None or index is None:
            return None
        run, pointers = graph.run, dict(enumerate(addresses, 1))

        def call() -> None:
            run(index, pointers, at)

        return call

    def _made(self, how: Convolution, limit: int) -> Graph | None:
        try:
            return Graph(self._cudnn, how, limit, self._handle)
        except Exception:  # it raises classes of its own and RuntimeError for what it has no plan for
            return None
