"""Owners: claims, epochs, and what an old epoch is refused."""

from dataclasses import replace
from itertools import permutations

import pytest

from holdfast.journal.errors import Fenced, PlacementConflict
from holdfast.journal.records import Appended, Load, StreamId

ALICE, BOB = StreamId("Account", "alice"), StreamId("Account", "bob")


async def test_epochs_of_an_owner_rise_by_one(journal):
    """Each new incarnation is one above the last, each owner on its own."""
    async with journal("a") as scribe:
        assert scribe.epoch == 1
        assert await scribe.store.claim("a", "second") == 2
        assert await scribe.store.claim("b", "first") == 1
        assert await scribe.store.claim("a", "third") == 3


async def test_the_same_incarnation_claims_the_same_epoch(journal):
    """A claim whose answer was lost may be sent again."""
    async with journal() as scribe:
        assert await scribe.store.claim(scribe.owner, "first") == scribe.epoch
        await scribe.store.confirm(scribe.owner, scribe.epoch)


async def test_a_late_claim_of_a_former_incarnation_fences_nobody(journal):
    """It gets the epoch that it had, which is an old one now."""
    async with journal() as scribe:
        newer = await scribe.successor()
        assert await scribe.store.claim(scribe.owner, "first") == scribe.epoch
        await newer.store.confirm(newer.owner, newer.epoch)


async def test_the_newest_claim_wins_not_who_writes_first(journal):
    """An old owner is refused even at the right version; the new one goes on."""
    async with journal() as scribe:
        await scribe.append("c1", at=0)
        newer = await scribe.successor()
        refused = await scribe.append("c2", at=1)
        assert refused.args == Fenced(scribe.owner, 1, 2).args
        assert await newer.append("c3", at=1) == Appended(version=2, position=2)


async def test_fencing_comes_before_every_other_check(journal):
    """A fenced owner gets `Fenced` for a resend, for a wrong version and for a taken key."""
    async with journal() as scribe:
        append = scribe.build("c1", at=0, keys=[scribe.key("k", 1)])
        await scribe.store.append([append])
        await scribe.successor()
        old = [append, scribe.build("c2", at=9), scribe.build("c3", at=1, keys=[scribe.key("k", 2)])]
        assert [type(result) for result in await scribe.store.append(old)] == [Fenced] * 3


async def test_a_fenced_append_leaves_its_neighbours_alone(journal):
    """Old and new owner in one batch: only the new one writes."""
    async with journal() as old:
        new = await old.successor()
        results = await old.store.append(
            [old.build("o1", at=0), new.build("n1", at=0), old.build("o2", at=1), new.build("n2", at=1)]
        )
        assert [type(result) for result in results] == [Fenced, Appended, Fenced, Appended]


@pytest.mark.parametrize(("owner", "epoch"), [("", 0), ("", 1), ("nobody", 0), ("nobody", 1), ("host-1", 0)])
async def test_an_epoch_that_was_never_given_is_fenced(journal, owner, epoch):
    """Nobody appends or confirms without a claim, the empty owner least of all."""
    async with journal("host-1") as scribe:
        stranger = type(scribe)(scribe.store, owner, epoch)
        assert isinstance(await stranger.append("c1", at=0), Fenced)
        with pytest.raises(Fenced):
            await scribe.store.confirm(owner, epoch)


async def test_an_epoch_of_the_future_is_fenced(journal):
    """Only the current epoch is the current one."""
    async with journal() as scribe:
        assert isinstance(await type(scribe)(scribe.store, scribe.owner, 2).append("c1", at=0), Fenced)


async def test_confirm_returns_only_for_the_current_epoch(journal):
    """The error names the epoch that took over."""
    async with journal() as scribe:
        await scribe.store.confirm(scribe.owner, 1)
        await scribe.successor()
        with pytest.raises(Fenced) as fenced:
            await scribe.store.confirm(scribe.owner, 1)
        assert fenced.value.args == (scribe.owner, 1, 2)
        await scribe.store.confirm(scribe.owner, 2)


async def test_a_fenced_owner_loads_nothing(journal):
    """Its loads get `Fenced` in their places; those of bystanders and of the new owner are answered."""
    async with journal() as scribe:
        await scribe.fill(1)
        await scribe.successor()
        old, bystander, new = await scribe.store.load(
            [
                Load(stream=ALICE, owner=scribe.owner, epoch=1),
                Load(stream=ALICE),
                Load(stream=BOB, owner=scribe.owner, epoch=2),
            ]
        )
        assert old.args == Fenced(scribe.owner, 1, 2).args
        assert bystander.head == 1
        assert new.head == 0


async def test_a_claim_outlives_many_others(journal):
    """Hundreds of claims later epochs still rise by one, and the current one is the last."""
    async with journal("busy") as scribe:
        epochs = [await scribe.store.claim("busy", f"incarnation {number}") for number in range(50)]
        assert epochs == list(range(2, 52))
        await scribe.store.confirm("busy", 51)


async def test_a_claim_may_bring_the_epoch_that_another_partition_drew(journal):
    """It is the current one from then on, also when numbers were skipped; the next one that is drawn follows it."""
    async with journal() as scribe:
        assert await scribe.store.claim(scribe.owner, "second", 5) == 5
        newer = replace(scribe, epoch=5)
        assert isinstance(await scribe.append("c1", at=0), Fenced)
        assert await newer.append("c2", at=0) == Appended(version=1, position=1)
        assert await scribe.store.claim(scribe.owner, "third") == 6
        assert await scribe.store.claim("nobody yet", "first", 3) == 3
        await scribe.store.confirm("nobody yet", 3)


async def test_the_same_epoch_brought_again_by_the_same_incarnation_is_the_same_claim(journal):
    """Its answer may have been lost."""
    async with journal() as scribe:
        for _ in range(2):
            assert await scribe.store.claim(scribe.owner, "second", 4) == 4
        assert await scribe.store.claim(scribe.owner, "second") == 4
        await scribe.store.confirm(scribe.owner, 4)


@pytest.mark.parametrize(("incarnation", "epoch"), [("first", 1), ("third", 2), ("third", 4), ("second", 3)])
async def test_an_epoch_that_is_not_the_newest_is_fenced_and_changes_nothing(journal, incarnation, epoch):
    """Whoever brings it: a newer claim was here before. Nor has one epoch two incarnations."""
    async with journal() as scribe:
        await scribe.store.claim(scribe.owner, "second", 4)
        with pytest.raises(Fenced) as fenced:
            await scribe.store.claim(scribe.owner, incarnation, epoch)
        assert fenced.value.args == (scribe.owner, epoch, 4)
        await scribe.store.confirm(scribe.owner, 4)
        assert await scribe.store.claim(scribe.owner, "second") == 4
        assert await scribe.store.claim(scribe.owner, "fifth") == 5


async def test_two_claimers_in_every_order_end_with_the_newer_epoch(journal):
    """Each brings its epoch, once or again: whatever the order, the higher one is current, and the lower one writes
    nothing after it."""
    for number, order in enumerate(sorted(set(permutations("aabb")))):
        async with journal() as scribe:
            owner, current = f"owner {number}", 0
            for who in order:
                epoch = {"a": 1, "b": 2}[who]
                if epoch < current:
                    with pytest.raises(Fenced):
                        await scribe.store.claim(owner, who, epoch)
                else:
                    assert await scribe.store.claim(owner, who, epoch) == epoch
                current = max(current, epoch)
                stale = replace(scribe, owner=owner, epoch=3 - current)
                assert isinstance(await stale.append("x", at=0), Fenced)
                await scribe.store.confirm(owner, current)


async def test_a_registration_is_recorded_on_first_use(journal):
    """The same placement and code is the same registration, generation 1."""
    async with journal() as scribe:
        first = await scribe.store.register("Account", "dedicated", "code-1")
        assert (first.category, first.placement, first.code, first.generation) == (
            "Account",
            "dedicated",
            "code-1",
            1,
        )
        assert await scribe.store.register("Account", "dedicated", "code-1") == first


async def test_changed_code_raises_the_generation(journal):
    """Also when it changes back: what counts is that hosts must be rolled."""
    async with journal() as scribe:
        generations = [(await scribe.store.register("Account", "dedicated", code)).generation for code in "aabba"]
        assert generations == [1, 1, 2, 2, 3]


async def test_an_empty_code_asks_without_changing_what_is_recorded(journal):
    """A host, or a task with a reference, follows the code that a runtime recorded and never replaces it."""
    async with journal() as scribe:
        recorded = await scribe.store.register("Account", "dedicated", "code-1")
        assert await scribe.store.register("Account", "dedicated", "") == recorded
        assert await scribe.store.register("Account", "dedicated", "code-1") == recorded


async def test_another_placement_is_refused_and_changes_nothing(journal):
    """The error names both placements, and a code that came with it is not recorded."""
    async with journal() as scribe:
        first = await scribe.store.register("Account", "dedicated", "a")
        with pytest.raises(PlacementConflict) as conflict:
            await scribe.store.register("Account", "sharded(8)", "b")
        assert conflict.value.args == ("Account", "dedicated", "sharded(8)")
        assert await scribe.store.register("Account", "dedicated", "a") == first
        assert (await scribe.store.register("Order", "sharded(8)", "a")).generation == 1
