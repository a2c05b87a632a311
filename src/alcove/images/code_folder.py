"""A folder as a zip package: what ``alcove fn deploy FOLDER`` sends."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

from alcove.errors import InvalidRequest


def zip_folder(folder: Path) -> bytes:
    """Return a zip of the folder's files that depends on their names, contents and exec bits alone.

    Symbolic links are followed where they lead to a file inside the folder (npm makes such ones)
    and refused elsewhere.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise InvalidRequest(f"{folder} is not a folder")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for current, folders, names in os.walk(root):
            folders.sort()
            for name in folders:
                if os.path.islink(os.path.join(current, name)):
                    raise InvalidRequest(f"{Path(current, name)} is a link to a folder")
            for name in sorted(names):
                path = Path(current, name)
                real = path.resolve()
                if not real.is_relative_to(root) or not real.is_file():
                    raise InvalidRequest(f"{path} is not a file of {folder}", hint="remove or replace it")
                info = zipfile.ZipInfo(path.relative_to(root).as_posix(), (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                executable = os.access(real, os.X_OK) and real.stat().st_mode & 0o111
                info.external_attr = (0o100755 if executable else 0o100644) << 16
                archive.writestr(info, real.read_bytes())
    return buffer.getvalue()
