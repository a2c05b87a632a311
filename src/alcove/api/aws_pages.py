"""Pages of lists, as AWS's clients ask for them and read them."""

from __future__ import annotations

from alcove.api.body import number
from alcove.api.context import Call


def marker_and_limit(call: Call, most: int = 50) -> tuple[str, int]:
    """Return where the page begins and how much may be on it."""
    query = call.request.query
    return query.get("Marker", ""), number(query, "MaxItems", most)


def following(marker: str | None) -> dict[str, str]:
    """Return what says that there is more, where there is."""
    return {} if marker is None else {"NextMarker": marker}
