"""What all tests share: one hypothesis profile, the same examples on every machine and at every run.

``HYPOTHESIS_PROFILE=explore`` looks for new examples instead.
"""

import os

import pytest
from hypothesis import settings

from cnnforge.backends.numba import driver
from cnnforge.data.download import OFFLINE

settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


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
