"""What a machine is made of, and the QEMU command line that makes it.

``render`` is pure: the same spec gives the same arguments, so command lines are snapshot-tested. Everything that QEMU
opens comes to it as a descriptor: inside its jail there is nothing to open.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MIB = 1 << 20


class AcceleratorKind(StrEnum):
    KVM = "kvm"
    TCG = "tcg"

    def arguments(self) -> list[str]:
        # A small translation buffer: 100 idle machines must not hold 100 GiB of JIT space (the default is 1 GiB each).
        return ["-accel", "kvm" if self is AcceleratorKind.KVM else "tcg,tb-size=64"]

    def cpu(self) -> str:
        """The CPU model. Under emulation each feature that the guest kernel would use costs translated code: five-level
        page tables, SMAP and friends guard a guest's kernel from its own processes, and here the VM is the
        boundary; ``rep
        movsb`` (ERMS) is emulated byte by byte; AVX loops are emulated lane by lane. What is left is x86-64-v2."""
        if self is AcceleratorKind.KVM:
            return "host"
        off = ("la57", "erms", "fsrm", "smap", "smep", "pku", "umip", "xsave", "avx", "avx2")
        return ",".join(["max", *(f"{feature}=off" for feature in off)])


class DiskIo(StrEnum):
    """How QEMU reads files. What the page cache holds, io_uring answers at once; threads take two switches for it."""

    THREADS = "threads"
    IO_URING = "io_uring"


class DeviceModel(StrEnum):
    """The products' device models, lightest first. ``instance`` has slots for a pod's images and disks."""

    FUNCTION = "function"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """What a guest may ask of the host's disk in a second; what is beyond waits."""

    bytes_per_s: int
    requests_per_s: int


@dataclass(frozen=True, slots=True)
class Drive:
    """A virtio disk; ``fd`` None is an empty placeholder of ``size`` bytes, whose backing is swapped in later.

    ``queue`` is the length of its queues (what is read-only has one); 0 leaves both to QEMU, which gives each virtual
    processor a queue of 256.
    """

    name: str
    fd: int | None
    size: int = 0
    read_only: bool = True
    limits: DiskLimits | None = None
    queue: int = 0


@dataclass(frozen=True, slots=True)
class DiskTuning:
    """How the disks of a pod's volumes are served (``alcove bench disk`` says what each gives here): by how many
    queues (0: one for each virtual processor) of which length (0: as short as the slot's), with packed rings, with
    tables of their own for the requests' descriptors, past the host's page cache. Not by threads of their own: QEMU 7.2
    hangs when the file beneath such a disk is swapped.
    """

    queues: int = 1
    length: int = 0
    packed: bool = False
    tables: bool = True
    direct: bool = False
    limits: DiskLimits = DiskLimits(256 * MIB, 20_000)


# With a queue of its own a processor is interrupted itself for what it has asked for, and wakes no other.
DISK_TUNING = DiskTuning(queues=0)


@dataclass(frozen=True, slots=True)
class Channel:
    """A virtio-serial port; ``fd`` is a listening UNIX socket."""

    name: str
    fd: int


@dataclass(frozen=True, slots=True)
class Boot:
    """How a machine starts cold: descriptors of kernel and initrd, and the command line."""

    kernel_fd: int
    initrd_fd: int
    command_line: str


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A machine. ``boot`` None is a machine that waits for a saved state.

    ``memory_fd`` is a memory file of ``memory_mib``; ``share`` maps it shared (to save a template), else privately.
    ``tap_fd`` None is a machine without a network: the NIC is there, unconnected, so that one template serves both.
    ``more_taps`` are those of further NICs.
    """

    name: str
    accelerator: AcceleratorKind
    memory_mib: int
    memory_fd: int
    share: bool
    drives: tuple[Drive, ...]
    channels: tuple[Channel, ...]
    qmp_fd: int
    tap_fd: int | None = None
    more_taps: tuple[int | None, ...] = ()
    mac: str = "02:00:00:00:00:01"
    boot: Boot | None = None
    model: DeviceModel = DeviceModel.FUNCTION
    vcpus: int = 1
    disk_io: DiskIo = DiskIo.THREADS
    tuning: DiskTuning = DISK_TUNING

    def descriptors(self) -> list[int]:
        """Every descriptor that the process inherits."""
        fds = [self.memory_fd, self.qmp_fd]
        fds += [drive.fd for drive in self.drives if drive.fd is not None]
        fds += [channel.fd for channel in self.channels]
        fds += [fd for fd in (self.tap_fd, *self.more_taps) if fd is not None]
        if self.boot is not None:
            fds += [self.boot.kernel_fd, self.boot.initrd_fd]
        return fds


# The slots of the device model ``instance``, in the order in which the guest names them: after its root (vda) and its
# scratch disk (vdb). How large a slot's disk is, its guest is told once, and more than any file: what is behind it says
# what there really is (a partition table, a file system), and requests beyond the file's end fail.
IMAGE_SLOTS = tuple(f"image{number}" for number in range(8))
DISK_SLOTS = tuple(f"disk{number}" for number in range(8))
SLOT_BYTES = 1 << 40
IMAGE_QUEUE = 64
DISK_QUEUE = 128
_FIRST_SLOT = "c"
# A port that is empty until the host's folders are shown to the guest, and the guest's name for them (virtio-fs): the
# device cannot be in a template, for its state is another process's.
SHARES_PORT = "shares"
SHARES_TAG = "alcove"


def instance_slots() -> tuple[Drive, ...]:
    """Return the empty slots of a pod's machine."""
    images = (Drive(name, None, SLOT_BYTES, queue=IMAGE_QUEUE) for name in IMAGE_SLOTS)
    disks = (Drive(name, None, SLOT_BYTES, read_only=False, queue=DISK_QUEUE) for name in DISK_SLOTS)
    return (*images, *disks)


def slot_device(slot: str) -> str:
    """Return the guest's name of a slot's disk."""
    return "vd" + chr(ord(_FIRST_SLOT) + (*IMAGE_SLOTS, *DISK_SLOTS).index(slot))


KERNEL_COMMAND_LINE = (
    # Second line: features that each restore would pay for and no function uses. IPv6 has no way out; security modules
    # guard the guest's kernel from the guest's own only tenant, like ``mitigations``.
    # ``mitigations=off``: they guard the guest's kernel from the guest's own only tenant, at a price that emulation
    # multiplies. ``tsc=reliable no_timer_check``: calibration against emulated timers is slow and may hang.
    "console=ttyS0 quiet mitigations=off nokaslr random.trust_cpu=on panic=-1 tsc=reliable no_timer_check rdinit=/init "
    "ipv6.disable=1 psi=0 nowatchdog noautogroup audit=0 lsm= init_on_alloc=0 transparent_hugepage=never"
)


def render(spec: MachineSpec) -> list[str]:
    """Return QEMU's arguments, without the program's name."""
    arguments = [
        "-name", spec.name,
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35,memory-backend=ram,usb=off,smbus=off,sata=off,vmport=off,graphics=off",
        *spec.accelerator.arguments(),
        "-cpu", spec.accelerator.cpu(),
        "-smp", str(spec.vcpus),
        "-m", f"{spec.memory_mib}M",
        "-object",
        f"memory-backend-file,id=ram,mem-path=/proc/self/fd/{spec.memory_fd},size={spec.memory_mib}M,"
        f"share={'on' if spec.share else 'off'}",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-chardev", f"socket,id=qmp,fd={spec.qmp_fd},server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
        # A guest can print for ever: its console is a ring of 64 KiB inside the VMM, read by QMP.
        "-chardev", "ringbuf,id=console,size=65536",
        "-device", "isa-serial,chardev=console",
        "-device", "virtio-serial-pci,max_ports=4",
    ]  # fmt: skip
    if spec.boot is None:
        arguments += ["-incoming", "defer"]
    else:
        arguments += [
            "-kernel", f"/proc/self/fd/{spec.boot.kernel_fd}",
            "-initrd", f"/proc/self/fd/{spec.boot.initrd_fd}",
            "-append", spec.boot.command_line,
        ]  # fmt: skip
    for number, channel in enumerate(spec.channels):
        arguments += [
            "-chardev", f"socket,id=channel{number},fd={channel.fd},server=on,wait=off",
            "-device", f"virtserialport,chardev=channel{number},name={channel.name}",
        ]  # fmt: skip
    for number, drive in enumerate(spec.drives):
        arguments += _drive(number, drive, spec)
    if spec.tap_fd is None:
        nic = "virtio-net-pci,guest_announce=off,romfile="
    else:
        arguments += ["-netdev", f"tap,id=net,fd={spec.tap_fd},vhost=off"]
        nic = "virtio-net-pci,netdev=net,guest_announce=off,romfile="
    arguments += ["-device", f"{nic},mac={spec.mac},id=nic"]
    for number, fd in enumerate(spec.more_taps, 2):
        card = f"virtio-net-pci,guest_announce=off,romfile=,mac=02:00:00:00:00:{number:02x},id=nic{number}"
        if fd is not None:
            arguments += ["-netdev", f"tap,id=net{number},fd={fd},vhost=off"]
            card += f",netdev=net{number}"
        arguments += ["-device", card]
    if spec.model is DeviceModel.INSTANCE:
        arguments += ["-device", f"pcie-root-port,id={SHARES_PORT},chassis=1,slot=1"]
    return arguments


def _drive(number: int, drive: Drive, spec: MachineSpec) -> list[str]:
    # Under emulation a request reaches the disk sooner from the processor's own thread than by waking another: small
    # reads, of which mounting and importing consist, take a fifth less.
    notify = ",ioeventfd=off" if spec.accelerator is AcceleratorKind.TCG else ""
    mode = "on" if drive.read_only else "off"
    if drive.fd is None:
        file = f"driver=null-co,node-name={drive.name}-file,size={drive.size},read-zeroes=on,read-only={mode}"
        options: list[str] = []
    else:
        # The format is always said: a guest that writes a qcow2 header into its raw disk must not have it believed.
        options = ["-add-fd", f"fd={drive.fd},set={number + 1}"]
        file = f"driver=file,node-name={drive.name}-file,filename=/dev/fdset/{number + 1},locking=off"
        file += f",aio={spec.disk_io},read-only={mode}"
    raw = f"driver=raw,node-name={drive.name}{'-raw' if drive.limits else ''},file={drive.name}-file,read-only={mode}"
    if not drive.read_only:
        # What the guest deletes is freed on the host; nothing of it need survive the host. A full disk of the host's is
        # an error of the guest's, not a machine that stands still.
        file += ",discard=unmap" + ("" if drive.fd is None else ",cache.no-flush=on")
        raw += ",discard=unmap"
        notify += ",werror=report,rerror=report"
    if drive.limits is not None:
        options += ["-object", _throttle(drive.name, drive.limits)]
        options += ["-blockdev", file, "-blockdev", raw]
        top = f"driver=throttle,node-name={drive.name},throttle-group={drive.name}-limits,file={drive.name}-raw"
        top += ",discard=unmap"
    else:
        options += ["-blockdev", file]
        top = raw
    if drive.queue:
        tuning = DiskTuning() if drive.read_only else spec.tuning
        notify += f",num-queues={tuning.queues or spec.vcpus},queue-size={tuning.length or drive.queue}"
        notify += ",packed=on" if tuning.packed else ""
        notify += "" if tuning.tables else ",indirect_desc=off"
    return [*options, "-blockdev", top, "-device", f"virtio-blk-pci,drive={drive.name},id=disk-{drive.name}{notify}"]


def _throttle(name: str, limits: DiskLimits) -> str:
    # For as long as a second the double: bursts are what scratch disks see.
    size, requests = limits.bytes_per_s, limits.requests_per_s
    group = f"throttle-group,id={name}-limits,x-bps-total={size},x-bps-total-max={2 * size}"
    return f"{group},x-iops-total={requests},x-iops-total-max={2 * requests}"
