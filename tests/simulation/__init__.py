"""The simulation: the real cells, hosts, links, journal clients and journal servers, in a world made of one seed.

A run is a number. It decides how long messages take and which are lost, who is killed, stopped or replaced, what the
disk does, what clients ask for, and in which order everything happens. The same number is the same run, in any
process; so a failure is a number too:

    python -m tests.simulation --seed 4711          replay one run, twice, and compare
    python -m tests.simulation --seeds 2000         many, from 0 on
    … --part reminder                               with this part of the read side, whatever the seed says

| what | where |
|---|---|
| time, and processes that can be killed or stopped between any two steps | `clock` |
| messages: slow, overtaken, doubled, lost; answers that get lost | `network` |
| the journal's disk: slow, full, failing, torn, committing unheard | `disk` |
| named residents, and their ends: clean, late, or only believed | `cluster` |
| the aggregates, and the callers that use them | `aggregates`, `callers` |
| what lives from their events; its database; who subscribes, and sets reminders | `reacting`, `read_model`, `readers` |
| which of these a run has, and the verdict on them | `read_side` |
| which faults a run has, and when | `faults` |
| one run from its seed to its verdict | `run` |
| production code broken on purpose, to see that the judges notice | `planted`, `planted_readers` |
"""

import sys
from pathlib import Path

if (folder := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.append(folder)  # `checkers` lives beside this folder
