"""The judges are imported by name, here as in the tests that they judge."""

import sys
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

TESTS = Path(__file__).parent.parent

if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))

# What Hypothesis remembers of failures lies with pytest's cache.
set_hypothesis_home_dir(TESTS.parent / ".pytest_cache" / "hypothesis")
