"""The images that critest asks for, made here under their names: what it looks for in them is in them."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.oci.busybox import busybox_layer, program
from tests.oci.image import Entry, Image, directory, executable, image, layer, symlink
from tests.oci.registry import Registry

E2E = "e2e-test-images"
TOOLS = "k8s-staging-cri-tools"
_NGINX = """\
user www-data;
pid /var/run/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off;
  server {{ listen {port}; location / {{ root /srv; index index.html; }} }}
}}
"""
_PRIVILEGES = '#include <stdio.h>\n#include <unistd.h>\nint main(void){printf("Effective uid: %d\\n",geteuid());}\n'
_PAUSE = "#include <unistd.h>\nint main(void){for(;;)pause();}\n"
_GROUPS = "root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"
_USERS = "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home/default-user:/bin/sh\n"


def push_images(registry: Registry) -> None:
    """Push them all: one registry stands for every one that critest names."""
    base = busybox_layer()
    for name, made in _images(base).items():
        registry.push(name, made)


def _images(base: bytes) -> dict[str, Image]:
    pause = layer([_compiled("pause", _PAUSE, 0o755)])
    images = {
        f"{E2E}/busybox:1.29-2": image([base], {"Cmd": ["sh"]}),
        f"{E2E}/nginx:1.14-2": _nginx(base, 80),
        f"{E2E}/httpd:2.4.39-4": _nginx(base, 80, "echo httpd; "),
        f"{E2E}/nonewprivs:1.3": image(
            [base, layer([_compiled("nnp", _PRIVILEGES, 0o4755)])], {"Entrypoint": ["/nnp"]}
        ),
        f"{TOOLS}/hostnet-nginx-amd64:latest": _nginx(base, 12003),
        f"{TOOLS}/test-image-user-uid:latest": image([base], {"User": "1002"}),
        f"{TOOLS}/test-image-user-username:latest": image([base], {"User": "www-data"}),
        f"{TOOLS}/test-image-user-uid-group:latest": image([base], {"User": "1003:50000"}),
        f"{TOOLS}/test-image-user-username-group:latest": image([base], {"User": "www-data:50000"}),
        f"{TOOLS}/test-image-predefined-group:latest": image(
            [base, layer([Entry("etc/passwd", _USERS.encode()), Entry("etc/group", _GROUPS.encode())])],
            {"User": "1000"},
        ),
        # That of the sandboxes is another one than that which is pulled and removed.
        "pause:3.6": image([pause], {"Entrypoint": ["/pause"], "Env": ["OF=sandboxes"]}),
        "pause:3.9": image([pause], {"Entrypoint": ["/pause"]}),
    }
    for name in ("test-image-latest:latest", "test-image-tag:test", "test-image-tag:all", "test-image-digest:latest"):
        images[f"{TOOLS}/{name}"] = _marked(base, name)
    for number in (1, 2, 3):
        images[f"{TOOLS}/test-image-{number}:latest"] = _marked(base, f"image {number}")
        images[f"{TOOLS}/test-image-tags:{number}"] = _marked(base, "tags")
    return images


def _marked(base: bytes, mark: str) -> Image:
    return image([base, layer([Entry("mark", mark.encode())])], {"Cmd": ["sh"]})


def _nginx(base: bytes, port: int, before: str = "") -> Image:
    entries = [
        *program(Path("/usr/sbin/nginx")),
        *(directory(name) for name in ("srv", "var/log", "var/log/nginx", "var/lib", "var/lib/nginx", "usr/share")),
        symlink("var/run", "../run"),
        Entry("srv/index.html", b"<title>Welcome to nginx!</title>\n"),
        Entry("etc/alcove-nginx.conf", _NGINX.format(port=port).encode()),
    ]
    command = ["sh", "-c", f"{before}exec /usr/sbin/nginx -c /etc/alcove-nginx.conf -g 'daemon off;'"]
    return image([base, layer(entries)], {"Cmd": command, "ExposedPorts": {f"{port}/tcp": {}}})


def _compiled(name: str, source: str, mode: int) -> Entry:
    """Return a static program as an entry of a layer's root."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        command = ["gcc", "-x", "c", "-static", "-O1", "-w", "-o", str(target), "-"]
        subprocess.run(command, input=source.encode(), check=True, capture_output=True)
        return executable(name, target.read_bytes(), mode)
