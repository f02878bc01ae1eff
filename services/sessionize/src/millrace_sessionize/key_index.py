"""Which slots hold the open sessions of a client session id."""

from typing import Final

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

NO_SLOT: Final = -1
SEVERAL: Final = -2


class KeyIndex:
    """From a client session id, as its id in the vocabulary, to its slots. Nearly every key has one."""

    def __init__(self) -> None:
        """Begin with no key."""
        self._slot = np.full(1024, NO_SLOT, dtype=np.int32)
        self._several: dict[int, list[int]] = {}

    @property
    def nbytes(self) -> int:
        """Return the memory held, in bytes."""
        return int(self._slot.nbytes)

    def find(self, keys: Ids) -> Ints:
        """Return the one slot of each key, or NO_SLOT, or SEVERAL."""
        highest = int(keys.max(initial=0))
        if highest >= len(self._slot):
            more = max(highest + 1 - len(self._slot), len(self._slot) // 2)
            self._slot = np.append(self._slot, np.full(more, NO_SLOT, dtype=np.int32))
        return self._slot[keys].astype(np.int64)

    def slots(self, key: int) -> list[int]:
        """Return the slots of `key`, which was asked for in `find` before."""
        slot = int(self._slot[key])
        if slot == SEVERAL:
            return self._several[key].copy()
        return [] if slot == NO_SLOT else [slot]

    def add(self, keys: Ids, slots: Ints) -> None:
        """Note the slot of each key, which had none in `find`."""
        self._slot[keys] = slots

    def put(self, key: int, slots: list[int]) -> None:
        """Set all slots of `key`; none forgets the key."""
        self._several.pop(key, None)
        if len(slots) > 1:
            self._several[key] = slots
            self._slot[key] = SEVERAL
        else:
            self._slot[key] = slots[0] if slots else NO_SLOT

    def remove(self, keys: Ids, slots: Ints) -> list[int]:
        """Forget each (key, slot) that is noted; return the other slots of those keys."""
        found = self._slot[keys]
        only = found == slots
        self._slot[keys[only]] = NO_SLOT
        others: list[int] = found[~only & (found >= 0)].tolist()
        for at in np.flatnonzero(found == SEVERAL).tolist():
            key = int(keys[at])
            left = [other for other in self.slots(key) if other != slots[at]]
            self.put(key, left)
            others += left
        return others

    def renumber(self, new_ids: Ids) -> None:
        """Follow the vocabulary, which has given keys that have slots the ids `new_ids`[old id]."""
        old = np.flatnonzero(self._slot != NO_SLOT)
        slots = self._slot[old]
        self._slot = np.full(max(1024, 2 * int(new_ids.max())), NO_SLOT, dtype=np.int32)
        self._slot[new_ids[old]] = slots
        self._several = {int(new_ids[key]): own for key, own in self._several.items()}
