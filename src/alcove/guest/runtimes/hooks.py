"""Hooks around a snapshot, and the reseeding of every generator that a clone would share.

Tenant code registers its own with the module ``snapshot_restore_py`` (AWS's names for the same). Before a snapshot
the last registered runs first, after a restore the first registered.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any


class Hooks:
    """Runs the hooks of the tenant's code, where it has registered any, and reseeds."""

    def before_snapshot(self) -> None:
        registered = self._registered()
        if registered is not None:
            for function, arguments, keywords in reversed(registered.get_before_snapshot()):
                function(*arguments, **keywords)
        # The agent has moved the clock ahead: a generator of OpenSSL's used now finds itself seeded in the future
        # when it is used by a restored clone, and reseeds (``reseed_time_interval``, OpenSSL crypto/rand/drbg.c).
        self._use_openssl()

    def after_restore(self) -> None:
        self.reseed()
        registered = self._registered()
        if registered is not None:
            for function, arguments, keywords in registered.get_after_restore():
                function(*arguments, **keywords)

    def reseed(self) -> None:
        """Seed anew what draws from its own state: the kernel's generator has been given fresh entropy already."""
        random.seed()
        numpy: Any = sys.modules.get("numpy.random")
        if numpy is not None:
            numpy.seed(int.from_bytes(os.urandom(4), "big"))
        ssl: Any = sys.modules.get("_ssl")
        if ssl is not None:
            ssl.RAND_add(os.urandom(64), 64.0)
            ssl.RAND_bytes(1)

    def _use_openssl(self) -> None:
        ssl: Any = sys.modules.get("_ssl")
        if ssl is not None:
            ssl.RAND_bytes(1)

    def _registered(self) -> Any:
        return sys.modules.get("snapshot_restore_py")
