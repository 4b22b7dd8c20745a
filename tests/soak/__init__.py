"""The soak: real faults on a real Ray cluster, under load, for as long as you like.

    python -m tests.soak --minutes 5 [--seed S] [--placement both|dedicated|sharded] [--journal sqlite|postgres|both]

Three nodes on this machine, drivers in processes of their own, Ray tasks with references, and a nemesis that kills and
pauses hosts, the journal, drivers, nodes, the database, and everything at once. All that callers were told is judged
by `tests/checkers` against all that the journal holds.

    __main__      the guard: starts the soak, and ends every process of it however it went
    conductor     one run from the first process to the verdict
    ray_nodes     the cluster: nodes with addresses of their own, and which process is whose
    databases     where the journal is, and what can be done to a database server
    nemesis       the faults: which, when, to whom, and whether they were survived
    driver        a process with callers, and with Ray tasks that call
    reader        a driver's subscriber, its reminders, and the followers that it has run
    reading       the projection, the reaction, and what that and reminders write to
    workload      the aggregates, and a seeded plan of calls to them
    caller        makes the calls of a plan and notes what it was told, as it goes
    notes         the files in which callers note, and the history that they make together
    verdict       the judges over history and journal
    read_verdict  the judges over subscribers, read model, reaction and reminders
    table         what is printed at the end
    processes     what the system knows of processes: descendants, signals
"""
