"""Placing buffers: nothing that lives at once overlaps, and not much is wasted."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.plan.arena import ALIGN, Request, aligned, lower_bound, place

requests = st.lists(
    st.builds(
        lambda nbytes, first, length: Request(nbytes, first, first + length),
        st.integers(0, 1000),
        st.integers(-1, 20),
        st.integers(0, 8),
    ),
    max_size=25,
)


def alive(request: Request, t: int) -> bool:
    return request.first <= t <= request.last


@settings(max_examples=300)
@given(requests)
def test_what_lives_at_once_does_not_overlap(wanted):
    offsets, total = place(wanted)
    for (a, at), (b, bt) in combinations(zip(wanted, offsets, strict=True), 2):
        if any(alive(a, t) and alive(b, t) for t in range(-1, 30)):
            assert at + a.nbytes <= bt or bt + b.nbytes <= at or not a.nbytes or not b.nbytes
    assert all(at % ALIGN == 0 and at >= 0 for at in offsets)
    assert all(at + r.nbytes <= total for r, at in zip(wanted, offsets, strict=True))


@settings(max_examples=300)
@given(requests)
def test_the_total_lies_between_its_bounds(wanted):
    _, total = place(wanted)
    bound = max((sum(aligned(r.nbytes) for r in wanted if alive(r, t)) for t in range(-1, 30)), default=0)
    assert lower_bound(wanted) == bound
    assert bound <= total <= sum(aligned(r.nbytes) for r in wanted)


@given(requests)
def test_placing_is_a_function(wanted):
    assert place(wanted) == place(list(wanted))


def test_two_that_share_a_node_live_at_once():
    assert place([Request(64, 0, 2), Request(64, 2, 3)])[1] == 128
    assert place([Request(64, 0, 1), Request(64, 2, 3)])[1] == 64


def test_a_chain_takes_two_places_in_turn():
    """Each step reads one buffer and writes the next: the third may lie where the first was."""
    chain = [Request(640, i, i + 1) for i in range(10)]
    offsets, total = place(chain)
    assert total == 2 * 640
    assert offsets[::2] == [offsets[0]] * 5


def test_a_small_buffer_goes_into_a_gap():
    around = [Request(640, 0, 9), Request(640, 0, 2), Request(640, 0, 9), Request(320, 3, 9), Request(320, 3, 9)]
    assert place(around)[1] == 3 * 640


def test_nothing_takes_nothing():
    assert place([]) == ([], 0)
    assert lower_bound([]) == 0


def test_sizes_are_whole_cache_lines():
    assert [aligned(n) for n in (0, 1, 63, 64, 65)] == [0, 64, 64, 64, 128]
