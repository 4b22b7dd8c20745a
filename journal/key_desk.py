"""The key desk: where the process of the journal serves the keys of personal data.

There is one, with partition 0. What hosts need for writing is gathered while the store is at work, so that one
transaction, and one flush to disk, makes the keys of all of them.
"""

from collections.abc import Sequence

from .batcher import Batcher
from .errors import KeyStoreConflict, NoKeyStore
from .keys import DataSubject, Destroyed, Key, KeyId, KeyStore, Wanted

__all__ = ["KeyDesk"]


class KeyDesk:
    """Serves one key store, or says that there is none."""

    def __init__(self, store: KeyStore | None, mark: str = "") -> None:
        """`mark`: tells the store from others."""
        self._store, self._mark = store, mark
        self._preparing: Batcher[Wanted, tuple[Key, ...] | None] = Batcher("keys", self._prepare, in_flight_max=1)

    def __repr__(self) -> str:
        return f"<the desk of {self._store!r}>"

    async def open(self) -> None:
        """Open the store, if there is one. Raises `JournalOpenError`s."""
        if self._store is not None:
            await self._store.open()

    async def close(self) -> None:
        """Release it."""
        if self._store is not None:
            await self._store.close()

    def check(self, what: str, mark: str = "") -> None:
        """Raise `NoKeyStore` if there is none for `what`, and `KeyStoreConflict` if it is another than `mark` says."""
        if mark and mark != self._mark:
            raise KeyStoreConflict(what)
        self._found(what)

    async def prepare(self, wanted: Sequence[Wanted]) -> list[tuple[Key, ...] | None]:
        """See `KeyStore.prepare`."""
        self._found("personal data")
        waiting = [self._preparing.submit(each) for each in wanted]
        return [await each for each in waiting]

    async def find(self, ids: Sequence[KeyId]) -> list[bytes | None]:
        """See `KeyStore.find`."""
        return await self._found("personal data").find(ids)

    async def destroy(self, subject: DataSubject) -> Destroyed:
        """See `KeyStore.destroy`."""
        return await self._found(f"forgetting {subject}").destroy(subject)

    async def _prepare(self, wanted: list[Wanted]) -> list[tuple[Key, ...] | None]:
        return await self._found("personal data").prepare(wanted)

    def _found(self, what: str) -> KeyStore:
        if self._store is None:
            raise NoKeyStore(what)
        return self._store
