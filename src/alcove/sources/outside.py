"""What sources outside are reached with, and what is remembered of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from alcove.sources.address import AddressRule
from alcove.sources.tls import Trust
from alcove.store.database import Database


@dataclass(frozen=True, slots=True)
class Outside:
    database: Database
    rule: AddressRule
    trust: Trust = field(default_factory=Trust)
