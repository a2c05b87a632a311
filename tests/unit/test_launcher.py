from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alcove.errors import CapacityError
from alcove.sandbox.protocol import Runtime, Start
from alcove.sandbox.vm_launcher import Launcher
from alcove.vmm.spec import AcceleratorKind


class SlowLauncher(Launcher):
    """Launches what is no machine, when it is told to."""

    def __init__(self, state: Path) -> None:
        names = ("images", "jail", "network", "rehearsal_image", "empty_scratch_fd")
        parts: dict[str, Any] = dict.fromkeys(names)
        super().__init__(state=state, tag="0", accelerator=SimpleNamespace(kind=AcceleratorKind.TCG), **parts)  # type: ignore[arg-type]
        self.go = asyncio.Event()

    async def _launch(self, *arguments: Any, **keywords: Any) -> Any:
        await self.go.wait()
        if self.closing:
            raise CapacityError("the service is stopping")


async def test_closing_waits_for_what_is_being_launched(tmp_path: Path) -> None:
    launcher = SlowLauncher(tmp_path)
    launch = asyncio.create_task(launcher.launch(Runtime.PYTHON, Start.RESTORED, memory_fd=-1, scratch_fd=None))
    await asyncio.sleep(0)
    close = asyncio.create_task(launcher.close(lambda sandbox: False))
    await asyncio.sleep(0.01)
    assert not close.done()
    launcher.go.set()
    with pytest.raises(CapacityError, match="stopping"):
        await launch
    await close
    with pytest.raises(CapacityError, match="stopping"):
        await launcher.launch(Runtime.PYTHON, Start.RESTORED, memory_fd=-1, scratch_fd=None)
