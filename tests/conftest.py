import pytest
from cells import CELLS, COLUMNS, RECURRENT, on, required, why_not
from problems import VARIANTS

import fastml


def block_on(request):
    """A test inside a block on one cell of the grid.

    What cannot run here is skipped with the reason, or fails where the environment's FASTML_REQUIRE names it. A
    module's FAMILIES says which kernels it needs; without that, the recurrent ones.
    """
    reason = why_not(request.param, getattr(request.module, "FAMILIES", RECURRENT))
    if reason:
        (pytest.fail if required(request.param) else pytest.skip)(reason)
    with on(request.param):
        yield request.param


def name(cell):
    return "-".join(filter(None, cell))


@pytest.fixture(params=CELLS, ids=name)
def cell(request):
    """Each back end, and each rung of `native`."""
    yield from block_on(request)


@pytest.fixture(params=COLUMNS, ids=name)
def column(request):
    """Each back end, `native` on the rung that it picks: for what rungs share."""
    yield from block_on(request)


@pytest.fixture(params=VARIANTS)
def variant(request):
    """Each recurrent cell with each of its options."""
    return request.param


@pytest.fixture
def threads():
    """`fastml.set_num_threads`, undone afterwards."""
    before = fastml.get_num_threads()
    yield fastml.set_num_threads
    fastml.set_num_threads(before)
