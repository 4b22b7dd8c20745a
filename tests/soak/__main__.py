"""`python -m tests.soak`: the guard. It starts the soak in a process of its own and ends all that is left of it.

However that one ends (done, failed, Ctrl-C, killed), nothing it started outlives this process; if this one is killed,
the soak is told and ends its processes itself.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from .processes import adopt_orphans, below, die_with_parent, end_all_below

ROOT = Path(__file__).parent.parent.parent
SOAK = "from tests.soak.stage import main; main()"


def arguments(given: list[str]) -> argparse.Namespace:
    """What was asked for, checked."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults are done, over all journals")
    parser.add_argument("--seed", type=int, default=None, help="of faults and calls; one is drawn if none is given")
    parser.add_argument("--placement", choices=("both", "dedicated", "sharded"), default="both")
    parser.add_argument("--journal", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--faults", default="", help="only these kinds, separated by commas")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder, also of a good one")
    asked = parser.parse_args(given)
    if asked.seed is None:
        asked.seed = random.SystemRandom().randrange(1 << 30)
    return asked


def main() -> int:
    """Start the soak, wait for it, and leave nothing behind."""
    asked = arguments(sys.argv[1:])  # what is wrong with them is said before anything starts
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the soak too: it ends in order, and this goes on
    signal.signal(signal.SIGTERM, lambda *_: soak.terminate())
    folder = tempfile.mkdtemp(prefix="hf-")  # short: sockets are in it, and their names may not be long
    soak = subprocess.Popen([sys.executable, "-c", SOAK, folder, *sys.argv[1:]], cwd=ROOT, preexec_fn=as_a_child)
    code = soak.wait()
    left = below(os.getpid())
    resisted = end_all_below(os.getpid())
    if left:
        print(f"{len(left)} processes were left, and are ended", file=sys.stderr)
    if asked.keep or code == 1:
        print(f"journal, notes and logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if resisted else abs(code)


def as_a_child() -> None:
    """Ctrl-C means something to the soak; it hears when this process is killed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    die_with_parent()


if __name__ == "__main__":
    sys.exit(main())
