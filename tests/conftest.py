"""What all tests share: one hypothesis profile, the same examples on every machine and at every run.

``HYPOTHESIS_PROFILE=explore`` looks for new examples instead.
"""

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
