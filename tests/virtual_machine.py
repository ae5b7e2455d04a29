"""A virtual machine whose power is cut by killing it; needs root and three packages of Debian.

As a script, `virtual_machine.py KERNEL IMAGE PLACE COMMAND…`: run a command in a machine that sees
this one's files, read-only, and the ext4 in an image at a place among them. What the command says
is the machine's standard error; what is left of its environment are the variables named below. The
process is the machine: when it is killed, the memory with all that was not yet written is gone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

EMULATOR: Final = "qemu-system-x86_64"
PACKAGES: Final = ("qemu-system-x86", "busybox-static", "linux-image-amd64")
HAS_KVM: Final = os.access("/dev/kvm", os.R_OK | os.W_OK) and any(
    Path("/sys/module", name).exists() for name in ("kvm_intel", "kvm_amd")
)
"""Whether the processor itself can run the machine.

The device alone does not say so: there are kinds of it that run no kernel but those made for them.
"""
SLOWNESS: Final = 1 if HAS_KVM else 20
"""How many times as long things take in the machine."""

_MODULES: Final = (
    *("virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("virtio_blk", "crc16", "crc32c_generic", "mbcache", "jbd2", "ext4"),
    *("netfs", "fscache", "9pnet", "9pnet_virtio", "9p"),
)
"""What the kernel needs for the disk and for this machine's files, and what that needs."""
_VARIABLES: Final = ("DICOMZARR_", "PYTHON")
_INIT: Final = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /seen
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
exec >/dev/ttyS1 2>&1
set -e
stty -F /dev/ttyS1 -opost
mount -t proc proc /proc
depmod
modprobe -a virtio_pci virtio_blk 9pnet_virtio 9p crc32c_generic ext4
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=524288 seen /seen
mount -t proc proc /seen/proc
mount -t devtmpfs devtmpfs /seen/dev
mkdir -p /seen/dev/shm
mount -t tmpfs tmpfs /seen/dev/shm
mount -t ext4 /dev/vda /seen{place}
{{ env -i {variables} chroot /seen {command} 2>&1 || echo ended with $?; }} | cat
umount /seen{place}
poweroff -f
"""
"""The first process. What the command says goes through a pipe, as it is not for a terminal."""


def machine(root: Path, image: Path, place: Path) -> tuple[str, ...]:
    """Return the words that run a command in a machine.

    root: the folder in which Debian's kernel has its `boot` and `lib`.
    """
    kernels = sorted(path for path in root.glob("boot/vmlinuz-*") if _sees_files(path))
    lacking = not kernels or None in map(shutil.which, (EMULATOR, "busybox"))
    assert not lacking, f"this needs: apt-get install {' '.join(PACKAGES)}"
    return (sys.executable, __file__, str(kernels[-1]), str(image), str(place))


def _sees_files(kernel: Path) -> bool:
    """Tell whether a kernel knows 9p, the files of another machine; the one for clouds does not."""
    return any(_modules(kernel).glob("kernel/fs/9p/*"))


def _modules(kernel: Path) -> Path:
    return kernel.parents[1] / "lib/modules" / kernel.name.removeprefix("vmlinuz-")


def first_files(folder: Path, modules: Path, place: Path, command: list[str]) -> Path:
    """Write the archive of files that the machine starts from, and return it."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", folder / "bin/busybox")
    known = {path.name.partition(".")[0]: path for path in modules.rglob("*.ko*")}
    target = folder / "lib/modules" / modules.name
    target.mkdir(parents=True)
    for name in _MODULES:
        if name in known:  # else it is in the kernel itself, or modprobe says what it misses
            shutil.copy(known[name], target)
    variables = {k: v for k, v in os.environ.items() if k.startswith(_VARIABLES)} | {
        "PATH": os.defpath,
        "TMPDIR": "/dev/shm",  # noqa: S108 - the machine's own
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    said = {
        "place": shlex.quote(str(place)),
        "variables": shlex.join(f"{k}={v}" for k, v in variables.items()),
        "command": shlex.join(command),
    }
    (folder / "init").write_text(_INIT.format_map(said))
    (folder / "init").chmod(0o755)
    names = "\n".join(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")))
    archive = folder.with_suffix(".cpio")
    with archive.open("wb") as stream:
        pack = ["busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(
            pack,
            input=names.encode(),
            stdout=stream,
            stderr=subprocess.PIPE,
            cwd=folder,
            check=True,
        )
    shutil.rmtree(folder)
    return archive


def words(kernel: Path, image: Path, archive: Path) -> list[str]:
    """Return the machine's command line. What its kernel says goes into a file beside the image."""
    assert "," not in f"{image}{archive}", "the machine separates its options by commas"
    shared = "local,path=/,mount_tag=seen,security_model=none,readonly=on,multidevs=remap"
    return [
        *(EMULATOR, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-accel", "kvm" if HAS_KVM else "tcg,thread=multi", "-cpu", "max"),
        *("-smp", "2", "-m", "1G", "-kernel", str(kernel), "-initrd", str(archive)),
        *("-append", "console=ttyS0 panic=-1"),
        *("-drive", f"file={image},if=virtio,format=raw,cache=writeback", "-virtfs", shared),
        *("-serial", f"file:{image.with_suffix('.console')}", "-serial", "file:/dev/stderr"),
    ]


if __name__ == "__main__":
    kernel, image, place = map(Path, sys.argv[1:4])
    archive = first_files(image.with_suffix(".first"), _modules(kernel), place, sys.argv[4:])
    os.execvp(EMULATOR, words(kernel, image, archive))  # noqa: S606 - there is no shell to start
