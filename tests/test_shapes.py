"""Window arithmetic: against counting windows one by one, and the numbers that the course works out by hand."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cnnforge.errors import ShapeError
from cnnforge.shapes import (
    ReceptiveField,
    Window,
    count,
    extent,
    pair,
    same_pads,
    transposed_window,
    window,
    window_out,
)  # fmt: skip

small = st.integers(1, 12)
sides = st.integers(0, 4)


def count_windows(size, span, stride, before, after):
    """How many windows fit, by sliding one."""
    at, found = 0, 0
    while at + span <= before + size + after:
        at, found = at + stride, found + 1
    return found


@given(small, small, st.integers(1, 4), sides, sides)
def test_output_size_is_the_number_of_windows_that_fit(size, span, stride, before, after):
    assert window_out(size, span, stride, before, after) == count_windows(size, span, stride, before, after)


@given(small, small, st.integers(1, 4), sides, sides)
def test_ceil_mode_also_counts_windows_that_end_outside_but_begin_inside(size, span, stride, before, after):
    assume(after < span)  # as every pool has it
    at, found = 0, 0
    while at + span < before + size + after + stride and at < before + size:
        at, found = at + stride, found + 1
    assert max(0, window_out(size, span, stride, before, after, ceil_mode=True)) == found
    assert found - count_windows(size, span, stride, before, after) in (0, 1)


@pytest.mark.parametrize(
    ("size", "span", "stride", "padding", "out"),
    [
        (6, 3, 1, 0, 4),  # the edge detector
        (7, 3, 2, 0, 3),
        (6, 3, 2, 0, 2),  # does not divide: floor
        (39, 3, 1, 0, 37),
        (37, 5, 2, 0, 17),
        (17, 5, 2, 0, 7),
        (6, 3, 1, 1, 6),  # "same"
        (32, 5, 1, 0, 28),
    ],
)
def test_the_courses_formula(size, span, stride, padding, out):
    assert window_out(size, span, stride, padding, padding) == out == (size + 2 * padding - span) // stride + 1


@given(small, small, st.integers(1, 4))
def test_same_keeps_the_size_over_the_stride_and_puts_the_odd_row_last(size, span, stride):
    before, after = same_pads(size, span, stride)
    assert window_out(size, span, stride, before, after) == -(-size // stride)
    assert after - before in (0, 1)
    # No more padding than that takes.
    assert before + after == 0 or window_out(size, span, stride, before, after - 1) < -(-size // stride)


def test_same_padding_of_an_odd_kernel_is_the_courses():
    assert same_pads(6, 3, 1) == (1, 1)
    assert same_pads(9, 5, 1) == (2, 2)


@given(st.tuples(small, small), st.tuples(small, small), st.tuples(small, small), st.tuples(small, small))
def test_both_axes_follow_the_same_rule(size, kernel, stride, dilation):
    spans = extent(kernel[0], dilation[0]), extent(kernel[1], dilation[1])
    if spans[0] <= size[0] + 3 and spans[1] <= size[1] + 7:
        win = window(size, kernel, stride, (1, 2, 3, 4), dilation)
        assert win.out == (
            window_out(size[0], spans[0], stride[0], 1, 2),
            window_out(size[1], spans[1], stride[1], 3, 4),
        )
        assert win.extent == spans
        turned = window(size[::-1], kernel[::-1], stride[::-1], (3, 4, 1, 2), dilation[::-1])
        assert turned.out == win.out[::-1]
    else:
        with pytest.raises(ShapeError):
            window(size, kernel, stride, (1, 2, 3, 4), dilation)


def test_padding_words():
    assert window((5, 6), (3, 3), (1, 1), "valid").pads == (0, 0, 0, 0)
    assert window((5, 6), (3, 3), (1, 1), 2).pads == (2, 2, 2, 2)
    assert window((5, 6), (2, 3), (1, 1), "same").pads == (0, 1, 1, 1)
    assert window((5, 6), (3, 3), (1, 1), (1, 0, 2, 0)).pads == (1, 0, 2, 0)


def test_ceil_mode_reads_past_an_input_smaller_than_the_window_as_pytorch_does():
    assert window((1, 3), (2, 2), (2, 2), "valid", ceil_mode=True).out == (1, 2)
    with pytest.raises(ShapeError):
        window((1, 3), (3, 3), (2, 2), "valid", ceil_mode=True)


class TestAWindowThatDoesNotFit:
    def said(self, *args, **options):
        with pytest.raises(ShapeError) as caught:
            window(*args, **options)
        return caught.value

    def test_the_formula_with_its_numbers(self):
        error = self.said((4, 4), (5, 5), (1, 1), "valid")
        assert error.what == "a 5x5 window does not fit a 4x4 input"
        assert error.why == "4 + 2*0 < 5"
        assert error.fix == "kernel <= 4, or padding: same, or one pool fewer before it"

    def test_the_axis_that_is_too_small(self):
        assert self.said((9, 2), (3, 5), (1, 1), 1).why == "2 + 2*1 < 5"

    def test_the_axis_that_ceil_mode_does_not_help(self):
        assert self.said((1, 1), (2, 4), (2, 2), "valid", ceil_mode=True).why == "1 + 2*0 < 4"

    def test_uneven_padding_and_dilation(self):
        error = self.said((4, 9), (4, 4), (1, 1), (1, 2, 0, 0), (3, 1))
        assert error.why == "4 + 1 + 2 < 3*(4 - 1) + 1 = 10"
        assert error.fix.startswith("kernel <= 3, or")

    @given(st.tuples(small, small), st.tuples(small, small), st.tuples(small, small), sides)
    def test_the_kernel_that_it_names_fits(self, size, kernel, dilation, padding):
        try:
            window(size, kernel, (1, 1), padding, dilation)
        except ShapeError as error:
            axis = 0 if size[0] + 2 * padding < extent(kernel[0], dilation[0]) else 1
            widest = int(error.fix.removeprefix("kernel <= ").split(",")[0])
            assert widest < kernel[axis]
            assert extent(widest, dilation[axis]) <= size[axis] + 2 * padding < extent(widest + 1, dilation[axis])


class TestReceptiveField:
    @given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2)), max_size=4))
    def test_it_is_what_reaches_one_output(self, layers):
        """Against following one output back to the input, position by position."""
        field, windows, size = ReceptiveField(), [], 500
        for kernel, stride, dilation, padding in layers:
            windows.append(window((size, size), (kernel,) * 2, (stride,) * 2, padding, (dilation,) * 2))
            field, size = field.through(windows[-1]), windows[-1].out[0]

        def reached(output):
            seen = {output}
            for w in reversed(windows):
                taps = range(w.kernel[0])
                seen = {s * w.stride[0] + k * w.dilation[0] - w.pads[0] for s in seen for k in taps}
            return seen

        first, second = reached(0), reached(1)
        assert field.size[0] == max(first) - min(first) + 1
        assert field.jump[0] == min(second) - min(first)
        assert field.offset[0] == max(first) + min(first) + 1  # its centre, in half pixels
        assert field.size[0] == field.size[1]

    @given(st.lists(st.tuples(st.booleans(), *[st.integers(1, 3)] * 3, st.integers(0, 2)), min_size=1, max_size=4))
    def test_transposed_windows(self, layers):
        """Against following outputs back: never less, and no more where no stride skips outputs behind one."""
        field, windows, exact = ReceptiveField(), [], True
        for turned, kernel, stride, dilation, padding in layers:
            # Of holes between taps, or strides behind a split, the formula does not say which outputs they spare.
            exact &= not field.finer > (1, 1) or (stride == 1 and dilation == 1)
            exact &= not turned or dilation == 1
            shape = ((kernel,) * 2, (stride,) * 2, (dilation,) * 2, (padding,) * 4, (1, 1))
            windows.append(Window(*shape, transposed=turned))
            field = field.through(windows[-1])

        def reached(output):
            seen = {output}
            for w in reversed(windows):
                taps = [(k * w.dilation[0], s) for k in range(w.kernel[0]) for s in seen]
                if w.transposed:
                    inputs = [divmod(s + w.pads[0] - k, w.stride[0]) for k, s in taps]
                    seen = {i for i, off in inputs if off == 0}
                else:
                    seen = {s * w.stride[0] + k - w.pads[0] for k, s in taps}
            return max(seen) - min(seen) + 1 if seen else 0

        widest = max(reached(output) for output in range(100, 190))
        assert field.size[0] >= widest
        assert field.size[0] == widest or not exact

    def test_up_again(self):
        """A decoder as in U-Net: half the size, double it, look around."""
        down = ReceptiveField().through(window((8, 8), (2, 2), (2, 2), "valid"))
        up = down.through(transposed_window((4, 4), (2, 2), (2, 2), "valid", (1, 1), (0, 0)))
        assert (down.size, up.size) == ((2, 2), (2, 2))
        assert up.through(window((8, 8), (3, 3), (1, 1), "same")).size == (4, 4)
        again = up.through(window((8, 8), (2, 2), (2, 2), "valid"))
        assert (again.jump, again.finer) == ((2, 2), (1, 1))

    def test_the_centre_behind_a_transposed_window(self):
        # Four outputs per input at kernel = stride = 4: the first one's centre lies 3/8 of a pixel before the input's.
        field = ReceptiveField().through(transposed_window((4, 4), (4, 4), (4, 4), "valid", (1, 1), (0, 0)))
        assert field.offset == (Fraction(1, 4), Fraction(1, 4))

    def test_a_layer_that_sees_everything_sees_the_whole_input(self):
        field = ReceptiveField().through(window((8, 9), (3, 3), (1, 1), "valid"))
        assert field.whole((6, 7)).size == (8, 9)


def test_small_words():
    assert count((2, 3, 4)) == 24
    assert count(()) == 1
    assert pair(3) == (3, 3)
    assert pair((1, 2)) == (1, 2)
    assert extent(3, 2) == 5
