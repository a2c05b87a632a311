"""The users as which an instance's machines run: each machine has one of its own while it lives."""

from __future__ import annotations

import itertools

from alcove.errors import CapacityError
from alcove.vmm.jail import USERS, machine_users


class MachineUsers:
    """Hands out the users of the instance with this tag."""

    def __init__(self, tag: str) -> None:
        self._users = itertools.cycle(machine_users(tag))
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return a user that no machine has. Raises ``CapacityError``."""
        for user in itertools.islice(self._users, USERS):
            if user not in self._taken:
                self._taken.add(user)
                return user
        raise CapacityError("every machine user is taken", hint="stop sandboxes, then try again")

    def claim(self, user: int) -> None:
        """Note that a machine of an earlier daemon has it."""
        self._taken.add(user)

    def free(self, user: int) -> None:
        self._taken.discard(user)
