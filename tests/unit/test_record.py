"""Records of sandboxes: written before they are acted on, read after a crash."""

from __future__ import annotations

import json
from pathlib import Path

from alcove.sandbox.protocol import SandboxId
from alcove.sandbox.record import RecordStore, new_id


def test_a_record_is_there_with_its_folder(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "sandboxes")
    id = new_id()
    folder = store.create(id, {"step": "launching"})
    assert folder.stat().st_mode & 0o777 == 0o700
    assert store.all() == {id: {"id": id, "step": "launching"}}
    store.write(id, {"step": "loaded"})
    assert RecordStore(tmp_path / "sandboxes").all()[id]["step"] == "loaded"
    store.remove(id)
    store.remove(id)
    assert store.all() == {}


def test_what_cannot_be_read_is_still_found(tmp_path: Path) -> None:
    """A sandbox whose record a crash or a full disk has spoilt must be reaped, not overlooked."""
    store = RecordStore(tmp_path / "sandboxes")
    for name, text in (("s-half", '{"step": '), ("s-list", "[1]"), ("s-none", None), ("s-noise", b"\xff\xfe")):
        (store.folder / name).mkdir()
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (store.folder / name / "record.json").write_bytes(data)
    assert store.all() == {SandboxId(name): {} for name in ("s-half", "s-list", "s-noise", "s-none")}


def test_ids_differ_and_are_safe_names() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(id.startswith("s-") and id[2:].isalnum() and len(id) == 14 for id in ids)
    assert json.dumps(sorted(ids))
