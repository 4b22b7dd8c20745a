"""A fuzzer that follows coverage, for as long as it is given: `python -m tests.fuzz --seconds 60 [target …]`.

Each target runs in a process of its own, one after the other, for its share of the time. What a crash was found with
is left in `corpus/<target>/`, where the tests find it from then on. Needs `atheris` (dependency group `fuzz`).
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
READERS = [f"holdfast.journal.{name}" for name in ("admission", "codec", "rows", "shape", "url", "wire")]
READERS += [f"holdfast.actors.{name}" for name in ("context", "definition", "fields", "fingerprint")]
WORK = Path(__file__).parents[2] / "out" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    asked = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        running = ".".join(map(str, sys.version_info[:3]))
        print(
            f"there is no atheris for this Python ({running}): pip install --group fuzz, or use one it has wheels for"
        )
        return 1
    if asked.one:
        return fuzz(asked.one, asked.seconds)
    from tests.fuzz.targets import TARGETS

    unknown = sorted(set(asked.targets) - TARGETS.keys())
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    chosen = asked.targets or list(TARGETS)
    share = str(max(asked.seconds // len(chosen), 1))
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", share, "--one"]
    failed = [name for name in chosen if subprocess.run([*command, name]).returncode]
    print(f"failed: {', '.join(failed)}" if failed else f"{len(chosen)} targets, {share} s each: nothing found")
    return bool(failed)


def fuzz(name: str, seconds: int) -> int:
    """Runs until the time is over, or something is found; ends the process."""
    import atheris

    with atheris.instrument_imports(include=READERS):
        from tests.fuzz.targets import TARGETS
    found, grown = CORPUS / name, WORK / name
    found.mkdir(parents=True, exist_ok=True)
    grown.mkdir(parents=True, exist_ok=True)
    print(f"-- {name}: {seconds} s", flush=True)
    options = [f"-max_total_time={seconds}", "-max_len=512", "-timeout=10", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={found}/", str(grown), str(found)], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
