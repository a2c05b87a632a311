"""Packages of stock runtimes, unmodified: AWS's runtime interface clients and its libraries for Go and Rust.

Each is a function package for the runtime ``provided``, built once into ``build/stock-runtimes`` and again where its
inputs change. They come from their registries, with releases and hashes pinned (requirements.txt, package-lock.json,
go.sum, jars.sha256).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.runtime_process import compile_java

HERE = Path(__file__).parent
RUST = HERE.parents[1] / "examples/functions/provided-rust"
TARGET = HERE.parents[1] / "build/stock-runtimes"
PYTHON_BOOTSTRAP = "#!/bin/sh\nexec /usr/bin/python3 -m awslambdaric app.handler\n"
JAVA_HOME = Path("/usr/lib/jvm/java-17-openjdk-amd64")
JAVA_MODULES = "java.base,java.logging,java.management,jdk.unsupported"
# The quickest start under emulation: the simplest collector and compiler. The client's native library goes to /tmp.
JAVA_BOOTSTRAP = """#!/bin/sh
exec jre/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -cp '/var/task/lib/*' \\
    com.amazonaws.services.lambda.runtime.api.client.AWSLambda app.App
"""
NODE_BOOTSTRAP = '#!/bin/sh\nexec /usr/bin/node node_modules/aws-lambda-ric/bin/index.mjs "$_HANDLER"\n'


def run(*argv: str | Path, cwd: Path | None = None, **environment: str) -> None:
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


def python(folder: Path) -> None:
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    run(*pip, "--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", folder, "-r",
        HERE / "requirements.txt")  # fmt: skip
    shutil.copy(HERE / "app.py", folder)
    _bootstrap(folder, PYTHON_BOOTSTRAP)


def node(folder: Path) -> None:
    """What the package's install scripts do, less building their own curl with autotools: its native part is compiled
    from the sources that it brings, against the curl of the guest image.
    """
    work = folder.with_name(folder.name + "-work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, work)
    run("npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error", cwd=work)
    client = work / "node_modules/aws-lambda-ric"
    _compile(client, work)
    shutil.rmtree(client / "deps")
    shutil.copytree(client, folder / "node_modules/aws-lambda-ric")
    shutil.copy(HERE / "app.js", folder)
    _bootstrap(folder, NODE_BOOTSTRAP)
    shutil.rmtree(work)


def _compile(client: Path, work: Path) -> None:
    for archive in (client / "deps").glob("*.tar.gz"):
        run("tar", "-x", "--no-same-owner", "-f", archive, "-C", work)
    (library,) = work.glob("aws-lambda-cpp-*")
    (curl,) = work.glob("curl-curl-*")
    release = library.name.rpartition("-")[2]
    version = (library / "src/version.cpp.in").read_text().replace("@PROJECT_VERSION@", release)
    for part, number in zip(("MAJOR", "MINOR", "PATCH"), release.split("."), strict=True):
        version = version.replace(f"@PROJECT_VERSION_{part}@", number)
    (work / "version.cpp").write_text(version)
    # It includes these and uses nothing of them.
    (work / "unused").mkdir()
    for name in ("uv.h", "v8.h", "node.h"):
        (work / "unused" / name).touch()
    # In place of the guest's library, for its name alone.
    (work / "empty.c").touch()
    run("gcc", "-shared", "-Wl,-soname,libcurl.so.4", "-o", "libcurl.so", "empty.c", cwd=work)
    includes = (work / "unused", work / "node_modules/node-api-headers/include", work / "node_modules/node-addon-api",
                library / "include", curl / "include")  # fmt: skip
    sources = (client / "src/rapid-client.cc", library / "src/runtime.cpp", library / "src/logging.cpp", "version.cpp")
    options = ("-O1", "-std=c++17", "-fPIC", "-shared", *(f"-I{path.resolve()}" for path in includes))
    target = client / "dist/rapid-client.node"
    run("g++", *options, *sources, "-L.", "-Wl,--no-as-needed", "-lcurl", "-o", target, cwd=work)


def go(folder: Path) -> None:
    target = folder / "bootstrap"
    run("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", target, ".", cwd=HERE / "go",
        CGO_ENABLED="0", GOFLAGS="-mod=readonly -buildvcs=false")  # fmt: skip


def java(folder: Path) -> None:
    """The client and what it needs, and so much of Debian's Java as they need: ``provided`` has none."""
    jars = folder / "lib"
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    run("mvn", "--batch-mode", "--quiet", plugin, f"-DoutputDirectory={jars.absolute()}", cwd=HERE / "java")
    run("sha256sum", "--check", "--strict", "--quiet", HERE / "java/jars.sha256", cwd=jars)
    assert len(list(jars.iterdir())) == len((HERE / "java/jars.sha256").read_text().splitlines())
    (interfaces,) = jars.glob("aws-lambda-java-core-*.jar")
    compile_java(folder, HERE / "java/App.java", classpath=interfaces)
    run(JAVA_HOME / "bin/jlink", "--module-path", JAVA_HOME / "jmods", "--add-modules", JAVA_MODULES, "--strip-debug",
        "--no-man-pages", "--no-header-files", "--compress=2", "--output", folder / "jre")  # fmt: skip
    _bootstrap(folder, JAVA_BOOTSTRAP)


def rust(folder: Path) -> None:
    """The example, as its users build it."""
    target = ("--target-dir", TARGET.parent / "cargo")
    run("cargo", "build", "--quiet", "--release", "--locked", *target, cwd=RUST)
    shutil.copy(TARGET.parent / "cargo/release/bootstrap", folder)


def _bootstrap(folder: Path, text: str) -> None:
    (folder / "bootstrap").write_text(text)
    (folder / "bootstrap").chmod(0o755)


BUILDERS: dict[str, Callable[[Path], None]] = {"python": python, "node": node, "go": go, "java": java, "rust": rust}


def build(name: str) -> Path:
    """Return the folder of the package of that name."""
    digest = hashlib.sha256()
    for path in sorted((*HERE.rglob("*"), *RUST.rglob("*"))):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    target = TARGET / f"{name}-{digest.hexdigest()[:12]}"
    if not target.exists():
        for old in TARGET.glob(f"{name}-*"):
            shutil.rmtree(old)
        unfinished = TARGET / f".{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        BUILDERS[name](unfinished)
        unfinished.rename(target)
    return target
