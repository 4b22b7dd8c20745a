"""Makes the simulation, and the judges beside it, importable however pytest was started."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

for folder in (HERE.parent, HERE.parent / "actors", HERE.parent.parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
