"""Upcasting as authors see it: what may be declared, what is refused, and what older events are at a replay."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import ray.cloudpickle
from hf_host import Bench
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from holdfast.actors import Aggregate, DefinitionError, HydrationFailed, Reaction, apply, command, event, on, upcast
from holdfast.actors.definition import definition_of
from holdfast.actors.events import event_name, stored_type
from holdfast.actors.hydrate import hydrate
from holdfast.actors.snapshots import take
from holdfast.actors.testing import NotForThis, given, stored
from holdfast.journal.codec import CodecError
from holdfast.journal.event_types import name_and_version, typed_name
from holdfast.journal.records import Append, Fact, NewEvent, StreamId


@event("upcast.deposited", version=3, aliases=("upcast.deposit_made",))
class Deposited:
    cents: int
    currency: str = "EUR"

    @upcast(from_version=1)
    @staticmethod
    def _split_the_fee_off(old: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        events = [("upcast.deposited", {"amount": old["amount"] - old.get("fee", 0)})]
        return [*events, ("upcast.fee_charged@1", {"fee": old["fee"]})] if old.get("fee") else events

    @upcast(from_version=2)
    @staticmethod
    def _in_cents(old: dict[str, Any]) -> dict[str, Any]:
        return {"cents": old.pop("amount") * 100, **old}


@event("upcast.fee_charged", version=2, split_from=(Deposited,))
class FeeCharged:
    cents: int

    @upcast(from_version=1)
    @staticmethod
    def _in_cents(old: dict[str, Any]) -> dict[str, Any]:
        return {"cents": old["fee"] * 100}


@event("upcast.noise", version=2)
class Noise:
    @upcast(from_version=1)
    @staticmethod
    def _nothing_is_left(old: dict[str, Any]) -> list[dict[str, Any]]:
        return []


class Account(Aggregate, snapshot_every=4):
    cents: int = 0
    fees: int = 0
    seen: list[str] = []

    @command
    def deposit(self, cents: int) -> int:
        self.emit(Deposited(cents))
        return self.cents

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.cents += event.cents
        self.seen.append(event.currency)

    @on(FeeCharged)
    def _fee_charged(self, event: FeeCharged) -> None:
        self.fees += event.cents

    @on(Noise)
    def _noise(self, event: Noise) -> None:
        self.seen.append("noise")


OLD = [
    stored("upcast.deposited", 1, {"amount": 10, "fee": 2}),
    stored("upcast.deposited", 2, {"amount": 3, "currency": "CHF"}),
    stored("upcast.noise", 1, {"loud": True}),
    stored("upcast.deposit_made", 1, {"amount": 1}),
    stored("upcast.deposit_made", 3, {"cents": 7}),
    stored("upcast.fee_charged", 1, {"fee": 1}),
]


def facts(*events: Any) -> list[Fact]:
    return [Fact(position=n, version=n, type=each.type, payload=each.payload) for n, each in enumerate(events, 1)]


def replayed(cls: Any, *events: Any) -> Any:
    instance = definition_of(cls).new("test")
    definition_of(cls).replay(instance, facts(*events))
    return instance


# -- names -----------------------------------------------------------------------------------------------------------


def test_upcast_the_first_version_is_stored_under_its_bare_name() -> None:
    """Every journal that there is stays as it is."""
    assert [typed_name("a.b", version) for version in (1, 2, 10)] == ["a.b", "a.b@2", "a.b@10"]
    assert stored_type(Deposited) == "upcast.deposited@3"
    assert event_name(Deposited) == "upcast.deposited"
    assert [spec.name for spec, _ in given(Account).when.deposit(5).after.history] == ["upcast.deposited@3"]


@over(st.text(min_size=1), st.integers(1, 999_999_999))
def test_upcast_a_stored_type_is_read_in_one_way(name: str, version: int) -> None:
    """What `typed_name` writes comes back, for every name that `@event` takes; any text is something."""
    bare, found = name_and_version(name)
    assert typed_name(bare, found) == name
    if "@" not in name:
        assert name_and_version(typed_name(name, version)) == (name, version)


@pytest.mark.parametrize("stored", ["a@1", "a@0", "a@02", "@2", "a@", "a@2b", "a@-2", "a@99999999999"])
def test_upcast_what_is_no_version_is_a_part_of_the_name(stored: str) -> None:
    """Only what `typed_name` writes is taken for a version."""
    assert name_and_version(stored) == (stored, 1)


@pytest.mark.parametrize("name", ["upcast.a@2", "upcast.a@1", "upcast.a@007"])
def test_upcast_a_name_that_looks_like_a_version_is_refused(name: str) -> None:
    """It could not be told from one."""
    with pytest.raises(DefinitionError, match="does not end with @ and digits"):
        event(name)
    with pytest.raises(DefinitionError, match="does not end with @ and digits"):
        event("upcast.b", aliases=(name,))


# -- replay ----------------------------------------------------------------------------------------------------------


def test_upcast_older_events_replay_as_what_they_are_today() -> None:
    """Renamed, converted, split and dropped, through a chain and under an alias."""
    account = replayed(Account, *OLD)
    assert (account.cents, account.fees, account.version) == (800 + 300 + 100 + 7, 200 + 100, 6)
    assert account.seen == ["EUR", "CHF", "EUR", "EUR"]


def test_upcast_the_kit_takes_events_as_they_were_stored() -> None:
    """Beside those of today; its own checks, that state is what the events make it, hold over both."""
    outcome = given(Account, *OLD, Deposited(5)).when.deposit(10)
    assert outcome.state.cents == 1222
    assert outcome.events == [Deposited(10)]
    assert outcome.version == 8
    assert outcome.after.events[:3] == [Deposited(800), FeeCharged(200), Deposited(300, "CHF")]


async def test_upcast_a_snapshot_and_the_tail_are_the_same_as_all_events() -> None:
    """Wherever the snapshot was taken, also between older events, the state is that of the replay."""
    definition, stream = definition_of(Account), StreamId("Account", "a")
    async with Bench() as bench:
        journal = bench.journal
        epoch = await journal.claim("host", "one")
        events = tuple(
            NewEvent(type=each.type, payload=each.payload, command_id=f"c{n}", recorded_at=1)
            for n, each in enumerate(OLD)
        )
        await journal.append(Append(stream=stream, owner="host", epoch=epoch, expected_version=0, events=events))
        whole = await hydrate(definition, stream, journal)
        for version in range(1, len(OLD) + 1):
            at = await hydrate(definition, stream, journal, version=version, use_snapshot=False)
            await journal.save_snapshots([take(definition, stream, at.instance, version)], keep=10)
            found = await hydrate(definition, stream, journal)
            assert (found.snapshot_version, found.version) == (version, len(OLD))
            assert definition.same_state(found.instance, whole.instance)


def test_upcast_new_fields_with_defaults_need_nothing() -> None:
    """An event that lacks them is one with the defaults."""
    assert replayed(Account, stored("upcast.deposited", 3, {"cents": 1})).seen == ["EUR"]


@dataclass(frozen=True)
class Line:
    sku: str


@event("upcast.ordered")
class Ordered:
    lines: list[Line]
    first: Line | None = None
    either: Line | int | None = None
    by_sku: dict[str, Line] | None = None


class Order(Aggregate):
    skus: list[str] = []

    @on(Ordered)
    def _ordered(self, event: Ordered) -> None:
        self.skus += [line.sku for line in event.lines] + [line.sku for line in (event.by_sku or {}).values()]


def test_upcast_fields_that_the_class_does_not_have_are_no_error_at_any_depth() -> None:
    """They stay in the journal, and in what a reader gets as the payload."""
    line = {"sku": "a", "colour": "red"}
    everywhere = {"lines": [line], "first": line, "either": line, "by_sku": {"x": line}, "more": {"deep": [1]}}
    assert replayed(Order, stored("upcast.ordered", 1, everywhere)).skus == ["a", "a"]


@event("upcast.pair")
class Pair:
    sizes: tuple[int, int]


class Pairs(Aggregate):
    total: int = 0

    @on(Pair)
    def _pair(self, event: Pair) -> None:
        self.total += sum(event.sizes)


def test_upcast_a_tuple_of_another_length_is_told_and_not_cut() -> None:
    """It has places, no names: nobody knows which of them is the one too many."""
    assert replayed(Pairs, stored("upcast.pair", 1, {"sizes": [1, 2]})).total == 3
    for sizes in ([1], [1, 2, 3]):
        with pytest.raises(HydrationFailed, match="sizes"):
            replayed(Pairs, stored("upcast.pair", 1, {"sizes": sizes}))


def test_upcast_an_event_of_newer_code_is_told_with_both_versions() -> None:
    """Never skipped, never taken for an older one."""
    with pytest.raises(HydrationFailed, match=r"'upcast.deposited' at version 4, .* up to version 3") as caught:
        replayed(Account, *OLD, stored("upcast.deposited", 4, {"pence": 1}))
    assert (caught.value.version, caught.value.position) == (7, 7)
    with pytest.raises(HydrationFailed, match=r"'upcast.deposit_made' at version 9"):
        replayed(Account, stored("upcast.deposit_made", 9, {}))
    with pytest.raises(HydrationFailed, match=r"no @on method of Account applies 'upcast.unknown@2'"):
        replayed(Account, stored("upcast.unknown", 2, {}))


@pytest.mark.parametrize("fields", [{"fee": 1}, {"amount": "much"}, {"amount": None}])
def test_upcast_an_upcaster_that_fails_names_the_event_and_changes_nothing(fields: dict[str, Any]) -> None:
    """The stream cannot be brought back, and says where and why."""
    with pytest.raises(HydrationFailed, match=r"event upcast.deposited: it cannot be upcast") as caught:
        replayed(Account, stored("upcast.deposited", 1, fields))
    assert caught.value.version == 1


RETURNS: Any = None


@event("upcast.odd", version=2)
class Odd:
    n: int = 0

    @upcast(from_version=1)
    @staticmethod
    def _as_told(old: dict[str, Any]) -> Any:
        return RETURNS


class Keeper(Aggregate):
    numbers: list[int] = []

    @on(Odd)
    def _odd(self, event: Odd) -> None:
        self.numbers.append(event.n)


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (None, "returned NoneType, no dict and no list of events"),
        ("text", "returned str, no dict and no list"),
        ([1], "returned 1 in its list"),
        ([("a",)], r"returned \('a',\) in its list"),
        ([("upcast.other", 3)], "in its list"),
        ({1: 2}, "fields have names, and 1 is none"),
        ({"n": object()}, "TypeError"),
        ([("upcast.other", {})], "it is upcast to 'upcast.other', which no method applies"),
        ([("upcast.odd@1", {})], "'upcast.odd@1' is no version to go on from"),
        ([("upcast.odd@3", {})], "'upcast.odd@3' is no version to go on from"),
    ],
)
def test_upcast_what_an_upcaster_may_not_return_is_told(
    returned: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words that name the function's mistake."""
    monkeypatch.setitem(globals(), "RETURNS", returned)
    with pytest.raises(HydrationFailed, match=problem):
        replayed(Keeper, stored("upcast.odd", 1, {}))


@pytest.mark.parametrize(
    ("returned", "numbers"),
    [
        ({"n": 1}, [1]),
        ({}, [0]),
        ([], []),
        ([{"n": 1}, {"n": 2}], [1, 2]),
        ([("upcast.odd", {"n": 1}), {"n": 2}, ("upcast.odd@2", {"n": 3})], [1, 2, 3]),
        ({"n": 1, "more": {"x": [1.5, None, b"\0"]}}, [1]),
    ],
)
def test_upcast_one_event_becomes_as_many_as_the_upcaster_says(
    returned: Any, numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which it says them; none is fine too."""
    monkeypatch.setitem(globals(), "RETURNS", returned)
    assert replayed(Keeper, stored("upcast.odd", 1, {})).numbers == numbers


def test_upcast_a_split_that_the_other_event_does_not_tell_of_is_refused() -> None:
    """Else whoever reads the other event alone would miss those that are hidden in older ones."""

    @event("upcast.whole", version=2)
    class Whole:
        n: int

        @upcast(from_version=1)
        @staticmethod
        def _halves(old: dict[str, Any]) -> list[Any]:
            return [{"n": 1}, ("upcast.half", {"n": 2})]

    @event("upcast.half")
    class Half:
        n: int

    class Both(Aggregate):
        n: int = 0

        @on(Whole, Half)
        def _either(self, event: Whole | Half) -> None:
            self.n += event.n

    with pytest.raises(HydrationFailed, match=r"@event\('upcast.half', split_from=\(Whole,\)\) must say so"):
        replayed(Both, stored("upcast.whole", 1, {}))


def test_upcast_events_that_become_each_other_for_ever_are_told() -> None:
    """Not until the memory is full."""

    class Circle(Aggregate):
        @on(There, Back)
        def _either(self, event: Any) -> None: ...

    with pytest.raises(HydrationFailed, match="200 steps lead to no end"):
        replayed(Circle, stored("upcast.there", 1, {}))


def and_back(name: str) -> Any:
    return upcast(from_version=1)(lambda old: [(name, old)])


There: Any = event("upcast.there", version=2)(
    type("There", (), {"__module__": __name__, "_back": and_back("upcast.back@1")})
)
Back: Any = event("upcast.back", version=2, split_from=(There,))(
    type("Back", (), {"__module__": __name__, "_there": and_back("upcast.there@1")})
)
There.__event_split_from__ = (Back,)  # which no class statement can say


# -- what is refused when the class is made --------------------------------------------------------------------------


def step(start: int) -> Any:
    def named(old: dict[str, Any]) -> dict[str, Any]:
        return old

    return upcast(from_version=start)(named)


def planted(version: int, *starts: int) -> Any:
    return lambda: event("upcast.planted", version=version)(
        type("Planted", (), {"__module__": __name__, **{f"_{n}": step(start) for n, start in enumerate(starts)}})
    )


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (planted(2), r"is at version 2, and no @upcast\(from_version=1\) leads on from version 1"),
        (planted(4, 1, 3), r"no @upcast\(from_version=2\)"),
        (planted(2, 1, 1), "both upcast from version 1"),
        (planted(2, 1, 2), "upcasts from version 2, and the event is at version 2"),
        (planted(1, 1), "upcasts from version 1, and the event is at version 1"),
        (lambda: event("upcast.p", version=0), "version is a whole number from 1"),
        (lambda: event("upcast.p", version=True), "version is a whole number from 1"),
        (lambda: event("upcast.p", version="2"), "version is a whole number from 1"),  # type: ignore[arg-type]
        (lambda: event("upcast.p", aliases=("upcast.p",)), "called 'upcast.p' twice"),
        (lambda: event("upcast.p", aliases=("holdfast.p",)), "are Holdfast's own"),
        (lambda: event("upcast.p", aliases=("",)), "needs a stable name"),
        (lambda: event("upcast.p", split_from=(int,)), "split_from takes event classes"),
        (lambda: upcast(from_version=0)(lambda old: old), "from_version is a whole number from 1"),
        (lambda: upcast(from_version=2)(step(1)), "an upcaster starts from one version"),
    ],
)
def test_upcast_a_planted_mistake_is_told_when_the_class_is_made(make: Any, problem: str) -> None:
    """Before there is an aggregate, let alone a command."""
    with pytest.raises(DefinitionError, match=problem):
        make()


def test_upcast_a_mistake_names_its_place() -> None:
    """File and line of the upcaster."""
    with pytest.raises(DefinitionError) as caught:
        planted(2, 1, 2)()
    assert caught.value.where.startswith(__file__)


def test_upcast_an_alias_that_is_another_events_name_is_refused_in_one_scope() -> None:
    """As a second event of one name is, whichever comes first."""

    @event("upcast.first")
    class First:
        pass

    with pytest.raises(DefinitionError, match=r"the event name 'upcast.first' belongs to .*First"):

        @event("upcast.second", aliases=("upcast.first",))
        class Second:
            pass


def test_upcast_an_alias_that_is_another_events_name_is_refused_where_both_are_handled() -> None:
    """Also when they come from two modules: by aggregates and reactions alike."""
    one = event("upcast.one")(type("One", (), {"__module__": "upcast_one"}))
    two = event("upcast.two", aliases=("upcast.one",))(type("Two", (), {"__module__": "upcast_two"}))
    for base in (Aggregate, Reaction):
        methods = {f"_{n}": on(cls)(_handler()) for n, cls in enumerate((one, two))}
        with pytest.raises(DefinitionError, match=r"are both called 'upcast.one'"):
            type("Both", (base,), {"__module__": __name__, **methods})


def _handler() -> Any:
    def handler(self: Any, event: Any) -> None: ...

    return handler


# -- how it travels, and what it invalidates -------------------------------------------------------------------------


def test_upcast_an_event_class_travels_by_value_with_its_upcasters() -> None:
    """As Ray sends what stands in `__main__`."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    program = (
        "from holdfast.actors import Aggregate, event, on, upcast\n"
        "@event('upcast.sent', version=2, aliases=('upcast.posted',))\n"
        "class Sent:\n"
        "    cents: int\n"
        "    @upcast(from_version=1)\n"
        "    def _in_cents(old):\n"
        "        return {'cents': old['amount'] * 100}\n"
        "class Box(Aggregate):\n"
        "    cents: int = 0\n"
        "    @on(Sent)\n"
        "    def _sent(self, event): self.cents += event.cents\n"
    )
    exec(program, namespace)
    here = namespace["Box"]
    there = ray.cloudpickle.loads(ray.cloudpickle.dumps(here))
    for cls in (here, there):
        assert (
            replayed(cls, stored("upcast.posted", 1, {"amount": 2}), stored("upcast.sent", 2, {"cents": 1})).cents
            == 201
        )
    assert definition_of(there).schema == definition_of(here).schema


def made_with(step: Any, **options: Any) -> Any:
    body = {"__module__": __name__, "__annotations__": {"n": int}, "_step": upcast(from_version=1)(step)}
    made = event("upcast.changing", version=2)(type("Changing", (), body))

    def _changing(self: Any, event: Any) -> None:
        self.n += event.n

    fields = {"__module__": __name__, "__annotations__": {"n": int}, "n": 0, "_changing": on(made)(_changing)}
    return definition_of(type("Holder", (Aggregate,), fields, **options))


def test_upcast_another_upcaster_throws_old_snapshots_away() -> None:
    """They hold what the older one made of the events: the state's schema does not show it, the fingerprint does."""
    same = [made_with(lambda old: {"n": old["x"]}).schema for _ in range(2)]
    assert same[0] == same[1]
    assert made_with(lambda old: {"n": old["x"] + 1}).schema != same[0]


def test_upcast_snapshot_version_throws_old_snapshots_away() -> None:
    """For what no fingerprint shows; the first version is that of all snapshots there are."""
    plain = made_with(lambda old: old).schema
    assert made_with(lambda old: old, snapshot_version=1).schema == plain
    assert made_with(lambda old: old, snapshot_version=2).schema != plain
    with pytest.raises(DefinitionError, match="snapshot_version is a whole number from 1"):
        made_with(lambda old: old, snapshot_version=0)


# -- reactions -------------------------------------------------------------------------------------------------------


class Fees(Reaction):
    total: int = 0

    @on(FeeCharged)
    def fee(self, event: FeeCharged) -> None:
        self.emit(Deposited(event.cents))

    @apply(Deposited)
    def _counted(self, event: Deposited) -> None:
        self.total += event.cents


def test_upcast_a_reaction_gets_the_part_that_is_its_business() -> None:
    """The fee that an older deposit holds, though it knows nothing of deposits."""
    outcome = given(Fees).when_event(OLD[0], part=1)
    assert outcome.events == [Deposited(200)]
    with pytest.raises(NotForThis):
        given(Fees).when_event(OLD[0], part=0)
    assert given(Fees).when_event(FeeCharged(5)).events == [Deposited(5)]


def test_upcast_a_reaction_is_told_of_what_nobody_can_open() -> None:
    """An older event of which an upcaster makes nothing, and one of newer code: never passed over."""
    for broken in (stored("upcast.deposited", 1, {}), stored("upcast.fee_charged", 3, {})):
        with pytest.raises(CodecError):
            given(Fees).when_event(broken)


# -- random chains ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("drop"), NAMES),
        st.tuples(st.just("add"), NAMES, st.integers(-9, 9)),
        st.tuples(st.just("scale"), NAMES, st.integers(-3, 3)),
        st.tuples(st.just("twice"), NAMES),
        st.tuples(st.just("none if"), NAMES, st.integers(-9, 9)),
    ),
    max_size=6,
)


def taken(step: tuple[Any, ...], old: dict[str, int]) -> list[dict[str, int]]:
    """The model: what one step makes of one event."""
    match step:
        case ("rename", a, b):
            return [{b if key == a else key: old[key] for key in sorted(old, key=lambda key: key == a)}]
        case ("drop", a):
            return [{key: value for key, value in old.items() if key != a}]
        case ("add", a, n):
            return [{a: n, **old}]
        case ("scale", a, n):
            return [{key: value * n if key == a else value for key, value in old.items()}]
        case ("twice", a):
            return [old, {**old, a: 1}]
        case (_, a, n):
            return [] if old.get(a) == n else [old]
    raise AssertionError(step)


class Anything(Aggregate, abstract=True):
    log: list[list[int]] = []


@settings(deadline=None, max_examples=50)
@over(STEPS, st.lists(st.tuples(st.integers(0, 6), st.dictionaries(NAMES, st.integers(-9, 9))), max_size=8))
def test_upcast_random_chains_make_the_state_of_events_written_at_the_newest_version(
    steps: list[Any], events: list[tuple[int, dict[str, int]]]
) -> None:
    """Renames, drops, additions, splits: the same as if the newest code had written what they come to."""
    newest = len(steps) + 1
    body: dict[str, Any] = {"__module__": __name__, "__annotations__": dict.fromkeys("abcdef", int)}
    body |= dict.fromkeys("abcdef", 0)
    for start, each in enumerate(steps, 1):
        one = upcast(from_version=start)(lambda old, each=each: [*taken(each, old)])  # type: ignore[misc]
        body[f"_from_{start}"] = one
    made = event("upcast.random", version=newest)(type("Random", (), body))

    def _random(self: Any, event: Any) -> None:
        self.log.append([getattr(event, name) for name in "abcdef"])

    cls = type("Any", (Anything,), {"__module__": __name__, "_random": on(made)(_random)})
    old = [stored("upcast.random", min(1 + version, newest), fields) for version, fields in events]
    expected: list[dict[str, int]] = []
    for version, fields in events:
        left = [fields]
        for each in steps[min(1 + version, newest) - 1 :]:
            left = [more for one in left for more in taken(each, one)]
        expected += left
    new = [stored("upcast.random", newest, fields) for fields in expected]
    assert replayed(cls, *old).log == replayed(cls, *new).log


def test_upcast_payloads_are_read_as_any_messagepack_map() -> None:
    """Whatever wrote them: keys in any order, an empty map too."""
    payload = msgspec.msgpack.encode({"currency": "USD", "amount": 1})
    ancestry = definition_of(Account).ancestry
    (piece,) = ancestry.pieces("upcast.deposited@2", payload)
    assert piece.type == "upcast.deposited@3"
    assert msgspec.msgpack.decode(piece.payload) == {"currency": "USD", "cents": 100}
    assert ancestry.pieces("upcast.noise", b"\x80") == []
