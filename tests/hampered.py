"""The daemon on a system that refuses something: a script, `hampered.py [SCRIPT] run …`.

HAMPER says what. `inotify`: a seccomp filter lets inotify_init fail with EMFILE, as it does when
the user's instances are used up. `permissions`: nothing for most users, but root is told to mind
the permissions of files as well. `execution`: memory that was ever writable is never executed, and
nothing is privileged.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
LAST_CAPABILITY = 40
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7FFF0000
INOTIFY_INIT = {"x86_64": (253, 294), "aarch64": (26,)}


class Program(ctypes.Structure):
    """The system's struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_inotify() -> None:
    numbers = INOTIFY_INIT[platform.machine()]
    code = struct.pack("HBBI", 0x20, 0, 0, 0)  # load the number of the call
    for left, number in zip(reversed(range(len(numbers))), numbers, strict=True):
        code += struct.pack("HBBI", 0x15, left + 1, 0, number)  # jump to the refusal if equal
    code += struct.pack("HBBI", 0x06, 0, 0, RET_ALLOW)
    code += struct.pack("HBBI", 0x06, 0, 0, RET_ERRNO | errno.EMFILE)
    program = Program(len(code) // 8, code)
    control(PR_SET_NO_NEW_PRIVS, 1, 0)
    control(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))


def mind_permissions() -> None:
    if os.geteuid() == 0:
        control(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0)
        control(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0)


def refuse_execution() -> None:
    control(PR_SET_NO_NEW_PRIVS, 1, 0)
    control(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0)
    for capability in range(LAST_CAPABILITY + 1):
        control(PR_CAPBSET_DROP, capability, 0)


def control(option: int, first: int, second: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, first, second, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    {
        "inotify": refuse_inotify,
        "permissions": mind_permissions,
        "execution": refuse_execution,
    }[os.environ["HAMPER"]]()
    start = ["-m", "dicomzarr_watch"] if sys.argv[1] == "run" else []
    os.execv(sys.executable, [sys.executable, *start, *sys.argv[1:]])  # noqa: S606 - no shell wanted
