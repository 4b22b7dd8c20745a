"""What the tests of hosts share is imported by name: `hf_host` here, `checkers` beside this folder."""

import sys
from pathlib import Path

HERE = Path(__file__).parent

for folder in (HERE, HERE.parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
