"""``alcove layer`` against the small server of the other commands' tests."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

from tests.unit.test_cli import Stub, alcove, asked, stub

__all__ = ["stub"]
LAYERS = "/2018-10-31/layers"
ITEM = {"LayerVersionArn": "arn:l:1", "CompatibleRuntimes": ["python3.11"], "CreatedDate": "2026", "Description": "d"}


def test_publish_packs_a_folder(stub: Stub, tmp_path: Path) -> None:
    folder = tmp_path / "tools"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/x").write_text("#!/bin/sh\n")
    stub.answers[f"POST {LAYERS}/tools/versions"] = (201, {}, ITEM)
    assert alcove(tmp_path, "layer", "publish", str(folder), "--runtime", "python3.11").stdout == "arn:l:1\n"
    sent = json.loads(stub.asked[0][3])
    assert sent["CompatibleRuntimes"] == ["python3.11"]
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(sent["Content"]["ZipFile"])))
    assert archive.namelist() == ["bin/x"]


def test_lists_of_layers_and_versions(stub: Stub, tmp_path: Path) -> None:
    page = {"Layers": [{"LayerName": "a", "LatestMatchingVersion": ITEM}]}
    stub.answers[f"GET {LAYERS}"] = [(200, {}, {**page, "NextMarker": "a"}), (200, {}, page)]
    stub.answers[f"GET {LAYERS}/a/versions"] = (200, {}, {"LayerVersions": [ITEM]})
    assert len(json.loads(alcove(tmp_path, "layer", "list", "--json").stdout)) == 2
    assert "arn:l:1" in alcove(tmp_path, "layer", "list", "a").stdout


def test_delete_says_where_there_is_none(stub: Stub, tmp_path: Path) -> None:
    assert alcove(tmp_path, "layer", "delete", "tools", "1").exit_code != 0
    path = f"{LAYERS}/tools/versions/1"
    stub.answers[f"GET {path}"] = (200, {}, ITEM)
    stub.answers[f"DELETE {path}"] = (204, {}, b"")
    assert alcove(tmp_path, "layer", "delete", "tools", "1").stdout == "deleted tools:1\n"
    assert asked(stub)[-1] == f"DELETE {path}"
