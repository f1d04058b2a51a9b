"""What all tests share: one hypothesis profile, the same examples on every machine and at every run.

``HYPOTHESIS_PROFILE=explore`` looks for new examples instead.
"""

import os
from functools import cache

import pytest
from hypothesis import settings

from cnnforge.backends.cupy.cuda import open_device
from cnnforge.backends.numba import driver
from cnnforge.data.download import OFFLINE
from cnnforge.errors import BackendError

settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_runtest_setup(item):
    """A GPU is hardly ever there."""
    if item.get_closest_marker("gpu") is not None and (why := no_gpu()):
        pytest.skip(why)


@cache
def no_gpu() -> str:
    """Why nothing can run on a GPU here; empty where it can."""
    try:
        open_device()
    except BackendError as error:
        return error.why
    return ""


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_downloaded():
    """What tests need is here; a missing file is what they test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OFFLINE, "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def _small_runs_are_spread_too():
    """Tests' arrays are small: their kernels are to run on several threads all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "SPREAD", 0)
        yield
