"""Calls that change files are handed to a supervisor before the kernel does them.

As a script, `syscalls.py NAME COMMAND…`: set a seccomp filter, hand what it hears to the supervisor
that listens under this name (see supervised.py), and become the command. Its children have the
filter as well. The numbers are those of Linux; seccomp_unotify(2) tells the rest.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import selectors
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "write": 1,
        "pwrite64": 18,
        "fsync": 74,
        "fdatasync": 75,
        "ftruncate": 77,
        "rename": 82,
        "mkdir": 83,
        "rmdir": 84,
        "unlink": 87,
        "openat": 257,
        "mkdirat": 258,
        "unlinkat": 263,
        "renameat": 264,
        "renameat2": 316,
    },
    "aarch64": {
        "mkdirat": 34,
        "unlinkat": 35,
        "renameat": 38,
        "ftruncate": 46,
        "openat": 56,
        "write": 64,
        "pwrite64": 68,
        "fsync": 82,
        "fdatasync": 83,
        "renameat2": 276,
    },
}
NUMBERS: Final = _NUMBERS[platform.machine()]
NAMES: Final = {number: name for name, number in NUMBERS.items()}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}[platform.machine()]
_PIDFD_GETFD: Final = 438  # the same on all machines

_SET_MODE_FILTER: Final = 1
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_NO_NEW_PRIVS: Final = 38
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _IF_EQUAL, _IF_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_THIRD_ARGUMENT: Final = 32
_OPEN_TO_WRITE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NOTIFICATION: Final = struct.Struct("QIIiIQ6Q")
"""struct seccomp_notif: id, process, flags, number of the call, machine, address, arguments."""
_ANSWER: Final = struct.Struct("QqiI")
"""struct seccomp_notif_resp: id, value, error, flags."""
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_AT_FDCWD: Final = 0xFFFFFF9C

_libc = ctypes.CDLL(None, use_errno=True)

Arguments = tuple[int, ...]
Verdict = tuple[int, int, int]
"""Value, negative error and flags of the answer."""
PASS: Final[Verdict] = (0, 0, 1)
"""Let the kernel do it."""


def received(listener: int) -> tuple[int, int, str, Arguments] | None:
    """Return the number of a waiting call, the thread, name and arguments; None if it went."""
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except FileNotFoundError:
        return None
    number, thread, _, name, _, _, *arguments = _NOTIFICATION.unpack(buffer)
    return number, thread, NAMES[name], tuple(arguments)


def answer(listener: int, number: int, verdict: Verdict) -> None:
    """Decide a call; one whose process was killed needs no answer."""
    with suppress(FileNotFoundError):
        fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(number, *verdict)))


def is_in_use(listener: int) -> bool:
    """Tell whether a process is left that has the filter."""
    with selectors.PollSelector() as selector:
        selector.register(listener, selectors.EVENT_WRITE)
        return not any(events & selectors.EVENT_READ for _, events in selector.select(0))


def process_of(thread: int) -> int:
    status = Path(f"/proc/{thread}/status").read_text()
    return int(status.partition("Tgid:")[2].split()[0])


def path_of(thread: int, name: str, arguments: Arguments) -> str:
    """Return the path that a call is about; of a rename the new one."""
    match name:
        case "rename":
            return _named(thread, _AT_FDCWD, arguments[1])
        case "renameat" | "renameat2":
            return _named(thread, arguments[2], arguments[3])
        case "mkdir" | "rmdir" | "unlink":
            return _named(thread, _AT_FDCWD, arguments[0])
        case "openat" | "mkdirat" | "unlinkat":
            return _named(thread, arguments[0], arguments[1])
        case _:
            return str(Path(f"/proc/{thread}/fd/{arguments[0] & 0xFFFFFFFF}").readlink())


def memory_of(thread: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def file_of(process: int, descriptor: int) -> int:
    """Return a descriptor of the very file that a process has open, its position included."""
    handle = os.pidfd_open(process)
    try:
        found = _libc.syscall(_PIDFD_GETFD, handle, descriptor, 0)
    finally:
        os.close(handle)
    if found < 0:
        raise _error()
    return int(found)


def _named(thread: int, folder: int, address: int) -> str:
    path = os.fsdecode(memory_of(thread, address, 4096).partition(b"\0")[0])
    if path.startswith("/proc/self/fd/"):  # as good as a descriptor and a name
        number, _, path = path.removeprefix("/proc/self/fd/").partition("/")
        folder = int(number)
    if path.startswith("/"):
        return path
    folder &= 0xFFFFFFFF
    link = "cwd" if folder == _AT_FDCWD else f"fd/{folder}"
    return f"{Path(f'/proc/{thread}/{link}').readlink()}/{path}"


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


# --- the launcher ---


class _Program(ctypes.Structure):
    """The system's struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filtered() -> int:
    """Set the filter and return what hears of the calls; of opens those that are to write."""
    opens, others = NUMBERS["openat"], [n for name, n in NUMBERS.items() if name != "openat"]
    left = len(others)
    steps = [(_LOAD, 0, 0, 0)]  # the number of the call
    steps += [(_IF_EQUAL, left - n + 3, 0, number) for n, number in enumerate(others)]
    steps += [(_IF_EQUAL, 0, 2, opens), (_LOAD, 0, 0, _THIRD_ARGUMENT)]
    steps += [(_IF_ANY, 1, 0, _OPEN_TO_WRITE), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    program = _Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    if _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error()
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    found = _libc.syscall(_SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(program))
    if found < 0:
        raise _error()
    return int(found)


def _launch(name: str, command: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as supervisor:
        supervisor.connect("\0" + name)
        listener = _filtered()
        socket.send_fds(supervisor, [str(os.getpid()).encode()], [listener])
    os.close(listener)
    os.execv(command[0], command)  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    _launch(sys.argv[1], sys.argv[2:])
