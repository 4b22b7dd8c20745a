"""`python -m benchmarks NAME` answers one question; without a name it lists them."""

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))
    if len(sys.argv) != 2 or sys.argv[1] not in names:
        print("usage: python -m benchmarks NAME, one of:", *names, sep="\n  ")
        return 2
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
