"""The sample package that sandboxes rehearse with: loaded, called and forgotten before a tenant's code comes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from alcove.images.code import CodeStore

SOURCES = {
    "rehearsal.py": "import json\n\ndef handler(event, context):\n    return {'echo': json.dumps(event)}\n",
    "rehearsal.js": "exports.handler = async (event) => ({ echo: JSON.stringify(event) });\n",
    "rehearsal.php": "<?php return fn ($event, $context) => ['echo' => json_encode($event)];\n",
    "bootstrap": "#!/bin/sh\nexit 0\n",
}


async def rehearsal_image(folder: Path) -> Path:
    """Return the image of the sample package that sandboxes rehearse with."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in SOURCES.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.external_attr = 0o100755 << 16
            archive.writestr(info, source)
    store = CodeStore(folder)
    try:
        return (await store.build(buffer.getvalue(), python=True)).path
    finally:
        store.close()
