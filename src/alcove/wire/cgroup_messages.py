"""The numbers of a container's cgroup as containerd and kubelet read them (``io.containerd.cgroups.v2.Metrics``).

Only what an agent tells is in the tables; what is left out reads as zero.
"""

from __future__ import annotations

from alcove.wire.protobuf import STRING, UINT64, Field, Message


def _numbers(name: str, **numbers: int) -> Message:
    fields = (Field(number, field, UINT64) for field, number in numbers.items())
    return Message(f"io.containerd.cgroups.v2.{name}", *fields)


PIDS = _numbers("PidsStat", current=1, limit=2)
CPU = _numbers("CPUStat", usage_usec=1, user_usec=2, system_usec=3, nr_periods=4, nr_throttled=5, throttled_usec=6)
MEMORY = _numbers(
    "MemoryStat",
    anon=1,
    file=2,
    kernel_stack=3,
    slab=4,
    sock=5,
    shmem=6,
    file_mapped=7,
    file_dirty=8,
    file_writeback=9,
    anon_thp=10,
    inactive_anon=11,
    active_anon=12,
    inactive_file=13,
    active_file=14,
    unevictable=15,
    slab_reclaimable=16,
    slab_unreclaimable=17,
    pgfault=18,
    pgmajfault=19,
    usage=32,
    usage_limit=33,
    swap_usage=34,
    swap_limit=35,
    max_usage=36,
)
MEMORY_EVENTS = _numbers("MemoryEvents", low=1, high=2, max=3, oom=4, oom_kill=5)
IO_ENTRY = _numbers("IOEntry", major=1, minor=2, rbytes=3, wbytes=4, rios=5, wios=6)
IO = Message("io.containerd.cgroups.v2.IOStat", Field(1, "usage", IO_ENTRY, repeated=True))
NETWORK = Message(
    "io.containerd.cgroups.v2.NetworkStat",
    Field(1, "name", STRING),
    *(
        Field(number, name, UINT64)
        for number, name in enumerate(
            (
                *("rx_bytes", "rx_packets", "rx_errors", "rx_dropped"),
                *("tx_bytes", "tx_packets", "tx_errors", "tx_dropped"),
            ),
            2,
        )
    ),
)
METRICS = Message(
    "io.containerd.cgroups.v2.Metrics",
    Field(1, "pids", PIDS),
    Field(2, "cpu", CPU),
    Field(4, "memory", MEMORY),
    Field(6, "io", IO),
    Field(8, "memory_events", MEMORY_EVENTS),
    Field(9, "network", NETWORK, repeated=True),
)
