"""Checkpoints: how far a reader of the journal has come, and who may say so."""

from dataclasses import replace

import pytest

from holdfast.journal.errors import Fenced
from holdfast.journal.records import Checkpoint


def at(scribe, position, name="balances"):
    return Checkpoint(name=name, owner=scribe.owner, epoch=scribe.epoch, position=position)


async def test_a_checkpoint_that_nobody_saved_is_zero(journal):
    """Its reader begins at the beginning."""
    async with journal("follower") as follower:
        assert await follower.store.find_checkpoint("balances") == 0


async def test_the_newest_checkpoint_of_a_name_is_found(journal):
    """Each name on its own, whatever characters it has."""
    async with journal("follower") as follower:
        for position in (3, 7):
            await follower.store.save_checkpoint(at(follower, position))
        await follower.store.save_checkpoint(at(follower, 5, "überträge/1 ☂"))
        assert await follower.store.find_checkpoint("balances") == 7
        assert await follower.store.find_checkpoint("überträge/1 ☂") == 5
        assert await follower.store.find_checkpoint("Balances") == 0


async def test_a_checkpoint_may_be_set_back(journal):
    """A reader that begins anew says so."""
    async with journal("follower") as follower:
        await follower.store.save_checkpoint(at(follower, 7))
        rebuilding = await follower.successor()
        await rebuilding.store.save_checkpoint(at(rebuilding, 0))
        assert await follower.store.find_checkpoint("balances") == 0


async def test_a_fenced_owner_moves_no_checkpoint(journal):
    """Neither forward nor back; the error tells both epochs, and its successor goes on."""
    async with journal("follower") as old:
        await old.store.save_checkpoint(at(old, 4))
        new = await old.successor()
        for position in (9, 0):
            with pytest.raises(Fenced) as fenced:
                await old.store.save_checkpoint(at(old, position))
            assert fenced.value.args == ("follower", 1, 2)
        assert await new.store.find_checkpoint("balances") == 4
        await new.store.save_checkpoint(at(new, 5))
        assert await new.store.find_checkpoint("balances") == 5


@pytest.mark.parametrize(("owner", "epoch"), [("", 0), ("nobody", 0), ("nobody", 1), ("follower", 0), ("follower", 2)])
async def test_an_epoch_that_was_never_given_saves_no_checkpoint(journal, owner, epoch):
    """Not even the first one."""
    async with journal("follower") as follower:
        with pytest.raises(Fenced):
            await follower.store.save_checkpoint(at(replace(follower, owner=owner, epoch=epoch), 1))
        assert await follower.store.find_checkpoint("balances") == 0


async def test_a_checkpoint_follows_whoever_owns_it_now(journal):
    """The name is the reader's, not the owner's: another owner may take it over."""
    async with journal("follower") as one:
        await one.store.save_checkpoint(at(one, 3))
        other = replace(one, owner="other", epoch=await one.store.claim("other", "first"))
        await other.store.save_checkpoint(at(other, 4))
        assert await one.store.find_checkpoint("balances") == 4


async def test_a_refused_checkpoint_is_counted_with_those_that_were_fenced(journal):
    """Statistics tell how often an owner of the past came."""
    async with journal("follower") as old:
        await old.successor()
        before = (await old.store.statistics()).fenced
        with pytest.raises(Fenced):
            await old.store.save_checkpoint(at(old, 1))
        assert (await old.store.statistics()).fenced == before + 1


async def test_appends_go_on_beside_a_refused_checkpoint(journal):
    """What the store remembers of streams and owners is as good as before."""
    async with journal("follower") as old:
        await old.append("c1", at=0)
        new = await old.successor()
        with pytest.raises(Fenced):
            await old.store.save_checkpoint(at(old, 1))
        assert (await new.append("c2", at=1)).position == 2
        assert isinstance(await old.append("c3", at=2), Fenced)
