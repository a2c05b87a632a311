"""The interpreter's search for garbage in cycles, in a server that runs for months.

Modules and what a start has made stay until the end. A full search looks through all of them each time: in a server of
this size that holds up whoever asks just then by 10 to 20 ms.
"""

from __future__ import annotations

import gc


def spare_what_is_there() -> None:
    """Look through what is there one last time; later searches leave it out."""
    gc.collect()
    gc.freeze()
