"""How the Java runtime is started: in a machine by the agent, in a container by the image's script, in tests."""

from __future__ import annotations

# One processor, and a start that is saved: the simplest collector and the quick compiler. The heap is the largest
# function's; ``Heap.java`` keeps it to less. No files in /tmp, nothing to attach to.
OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:CICompilerCount=1",
    "-XX:ReservedCodeCacheSize=64m",
    "-XX:-UsePerfData",
    "-XX:+DisableAttachMechanism",
    "-Xshare:auto",
    "-Xms16m",
    "-Xmx2600m",
    "-XX:MaxNewSize=64m",
    "-Xss1m",
    "-Dfile.encoding=UTF-8",
    "-Dsun.stdout.encoding=UTF-8",
    "-Dsun.stderr.encoding=UTF-8",
    # The channel's descriptor, the environment, and generators to be seeded anew (Channel, Environment, Randomness).
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/sun.security.provider=ALL-UNNAMED",
)


def command(java: str, classes: str) -> list[str]:
    """Return the argv of the runtime whose classes are in the folder ``classes``."""
    return [java, *OPTIONS, "-cp", classes, "alcove.Main"]
