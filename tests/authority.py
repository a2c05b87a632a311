"""An authority for tests, by openssl: it signs certificates of servers of one name."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """Files, as PEM."""

    certificate: Path
    key: Path


def authority(folder: Path, name: str = "authority") -> Certificate:
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    _request(made, name, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    return made


def certificate(folder: Path, signer: Certificate, host: str = "localhost") -> Certificate:
    made = Certificate(folder / f"{host}.crt", folder / f"{host}.key")
    by = ("-CA", str(signer.certificate), "-CAkey", str(signer.key))
    _request(made, host, "basicConstraints=critical,CA:FALSE", f"subjectAltName=DNS:{host}", options=by)
    return made


def _request(made: Certificate, name: str, *extensions: str, options: tuple[str, ...] = ()) -> None:
    added = [word for extension in extensions for word in ("-addext", extension)]
    files = ("-keyout", str(made.key), "-out", str(made.certificate))
    argv = ["/usr/bin/openssl", "req", "-x509", *_CURVE, "-days", "2", "-subj", f"/CN={name}", *added, *options, *files]
    subprocess.run(argv, check=True, capture_output=True)
