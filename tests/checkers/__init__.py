"""The judges of a run. They know no runtime, no host and no store: only what callers were told, what the journal
holds, and what somebody who watched storage wrote down. Each is small enough to be believed.

    judge_history(history, recorded)    everything below; raises AssertionError, saying what is wrong with which stream

    history         one call as its caller saw it
    models          what the workloads' aggregates are: register, counter, append-list
    search          is there an order of the calls that explains the answers? needs nothing else
    witness         does the journal's order explain them? for histories of any size
    stream          lost, doubled, refused and yet done, gaps, replies other than replay's, snapshots other than events
    storage         shown before it was durable; a stale owner's append
    subscription    what subscribers were given: every event of their filter once, in order
    projection      a read model is the fold of its events
    reaction        for each event that a reaction reacts to, its effects, once
    reminder        each occurrence fired once, in time, with its command; none is forgotten
    acknowledged    the smaller judge of the tests of hosts: acknowledged replies against replay
"""

from .acknowledged import Acknowledged, contiguous, done_once, judge, ledger, replies_match
from .history import Operation, by_aggregate, merged, plain, well_formed
from .models import MODELS, AppendList, Counter, Model, Register
from .projection import equals_fold
from .reaction import Effect, effects_once
from .reminder import Reminded, fired_once, nothing_forgotten
from .search import TooWide, linearizable
from .storage import Durable, Written, nothing_shown_early, one_writer_per_epoch
from .stream import numbered, once_each, said_as_written, snapshots_equal_replay
from .subscription import Seen, every_event_once, seen_of
from .verdict import Verdict, judge_history
from .witness import in_order_of_time, replies_are_replay, witnessed

__all__ = [
    "MODELS",
    "Acknowledged",
    "AppendList",
    "Counter",
    "Durable",
    "Effect",
    "Model",
    "Operation",
    "Register",
    "Reminded",
    "Seen",
    "TooWide",
    "Verdict",
    "Written",
    "by_aggregate",
    "contiguous",
    "done_once",
    "effects_once",
    "equals_fold",
    "every_event_once",
    "fired_once",
    "in_order_of_time",
    "judge",
    "judge_history",
    "ledger",
    "linearizable",
    "merged",
    "nothing_forgotten",
    "nothing_shown_early",
    "numbered",
    "once_each",
    "one_writer_per_epoch",
    "plain",
    "replies_are_replay",
    "replies_match",
    "said_as_written",
    "seen_of",
    "snapshots_equal_replay",
    "well_formed",
    "witnessed",
]
