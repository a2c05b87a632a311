"""nftables in this process, by the library that nft(8) is made of: no program to start for each rule."""

from __future__ import annotations

import ctypes
import threading

from alcove.errors import HostError

_LIBRARY = "libnftables.so.1"
# The library keeps state of its own beside the contexts: two threads in it at once corrupt its memory.
_inside = threading.Lock()


class Nftables:
    """A connection to the kernel's rules in the calling thread's network namespace; for use by that thread alone.

    Raises ``HostError`` where the library is missing.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise HostError("libnftables is not installed", hint="apt-get install nftables") from error
        for name in ("nft_ctx_new", "nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            getattr(self._library, name).restype = ctypes.c_void_p
        with _inside:
            self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
            self._library.nft_ctx_buffer_output(self._context)
            self._library.nft_ctx_buffer_error(self._context)

    def load(self, rules: str, *, tolerant: bool = False) -> None:
        """Load rules in one transaction. Raises ``HostError`` with the library's words, unless ``tolerant``."""
        with _inside:
            status = self._library.nft_run_cmd_from_buffer(self._context, rules.encode())
            words = ctypes.string_at(self._library.nft_ctx_get_error_buffer(self._context)).decode(errors="replace")
        if status and not tolerant:
            raise HostError(f"nft refuses the rules: {words.strip()[:500]}")

    def __enter__(self) -> Nftables:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        with _inside:
            self._library.nft_ctx_free(self._context)
