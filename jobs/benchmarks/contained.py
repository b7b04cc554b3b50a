"""The inner half of the sandbox: shuts itself in, then becomes the Python that runs a program from its standard input.

Started for every program, so it imports little of the standard library (not even json or pathlib, which take as long
as the rest) and nothing of ours. `sandbox` is the outer half. Needs user namespaces and Linux 5.12 (mount_setattr) on
x86-64."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
"""New user, mount, process, network, IPC, host name and control group namespaces."""
NOBODY, SIGKILL = 65534, 9
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
READ_ONLY_NOSUID_NODEV = 1 | 2 | 4
AT_FDCWD, AT_RECURSIVE, MOUNT_SETATTR, PIVOT_ROOT = -100, 0x8000, 442, 155
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38

X86_64 = 0xC000003E
DENIED = (
    *(57, 58),  # fork, vfork
    *(41, 53),  # socket, socketpair
    *(272, 308, 165, 166, 155, 161, 428, 429, 430, 432, 442),  # namespaces, mounts, roots
    *(101, 310, 311, 438, 434, 298, 321, 323),  # other processes, perf events, BPF, userfaultfd
    *(425, 426, 427),  # io_uring, which would pass the filter by
    *(246, 320, 175, 176, 313, 169),  # other kernels, modules, reboot
    *(248, 249, 250),  # keys
    *(303, 304),  # files by handle
    *(29, 30, 64, 68, 240, 319, 447),  # memory that no limit counts: shared segments, queues, memory files
)
CLONE, CLONE3, CLONE_THREAD = 56, 435, 0x00010000
EPERM, ENOSYS = 1, 38
ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000

libc = ctypes.CDLL(None, use_errno=True)


class Filter(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> None:
    """Arguments: report (a file's descriptor), seconds, memory and scratch (bytes), root (an empty folder), libraries,
    python, and all paths that the interpreter needs.

    Writes the program's exit status (128 + signal where one ended it) and its processor seconds to report."""
    report = int(sys.argv[1])
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    os.set_inheritable(report, False)
    user, group = os.geteuid(), os.getegid()
    check(libc.unshare(NAMESPACES), "unshare")
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{NOBODY} {user} 1")
    write("/proc/self/gid_map", f"{NOBODY} {group} 1")
    alive, held = os.pipe()
    child = os.fork()
    if child:
        _, status, used = os.wait4(child, 0)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        os.write(report, f"{code} {used.ru_utime + used.ru_stime}".encode())
        os._exit(0)
    os.close(held)
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    os.set_blocking(alive, False)
    try:
        os.read(alive, 1)  # its end: the parent died before the call above
        os._exit(1)
    except BlockingIOError:
        pass
    become_the_program(sys.argv[2:5], *sys.argv[5:8], visible=sys.argv[7:])


def become_the_program(limits: list[str], root: str, libraries: str, python: str, *, visible: list[str]) -> None:
    """Shut this process in and replace it by an interpreter that reads its program from standard input."""
    seconds, memory, scratch = map(int, limits)
    build_root(root, visible, scratch)
    set_limits(seconds, memory, scratch)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    seccomp()
    environment = {"LD_LIBRARY_PATH": libraries, "MALLOC_ARENA_MAX": "1", "HOME": "/tmp"}
    os.execve(python, [python, "-I", "-S", "-B", "-X", "utf8", "-"], environment)


def build_root(root: str, visible: list[str], scratch: int) -> None:
    """A file system of the visible folders, read-only, and a small /tmp in memory; nothing else can be reached."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", 0, "size=1m,mode=755")
    for path in visible:
        inside = root + path
        os.makedirs(os.path.dirname(inside), exist_ok=True)
        if os.path.islink(path):
            if not os.path.lexists(inside):
                os.symlink(os.readlink(path), inside)
        elif os.path.isdir(path):
            os.makedirs(inside, exist_ok=True)
            mount(path, inside, "", MS_BIND | MS_REC)
        else:
            write(inside, "")
            mount(path, inside, "", MS_BIND)
    for folder in ("/tmp", "/.old"):
        os.makedirs(root + folder, exist_ok=True)
    check(libc.syscall(PIVOT_ROOT, root.encode(), f"{root}/.old".encode()), "pivot_root")
    os.chdir("/")
    check(libc.umount2(b"/.old", MNT_DETACH), "umount2")
    attributes = ctypes.create_string_buffer(struct.pack("<QQQQ", READ_ONLY_NOSUID_NODEV, 0, 0, 0))
    check(libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, 32), "mount_setattr")
    mount("tmpfs", "/tmp", "tmpfs", 2 | 4, f"size={scratch},nr_inodes=1024,mode=777")
    os.chdir("/tmp")


def set_limits(seconds: int, memory: int, scratch: int) -> None:
    """Memory, processor seconds, the size and number of files; no core dumps."""
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, scratch),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(limit, (value, value))


def seccomp() -> None:
    """A filter of system calls: no processes (threads are allowed), no sockets, no namespaces; other architectures'
    calls end the program."""
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    rules = [
        (load, 0, 0, 4),
        (equal, 1, 0, X86_64),
        (answer, 0, 0, KILL),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),
        (answer, 0, 0, KILL),
    ]
    for call in DENIED:
        rules += [(equal, 0, 1, call), (answer, 0, 0, ERROR | EPERM)]
    rules += [(equal, 0, 1, CLONE3), (answer, 0, 0, ERROR | ENOSYS)]  # libc then uses clone, whose flags can be read
    rules += [(equal, 0, 4, CLONE), (load, 0, 0, 16), (any_bit, 0, 1, CLONE_THREAD), (answer, 0, 0, ALLOW)]
    rules += [(answer, 0, 0, ERROR | EPERM), (answer, 0, 0, ALLOW)]
    code = b"".join(struct.pack("<HBBI", *rule) for rule in rules)
    whole = Filter(len(rules), code)  # must outlive the call
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(whole))


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w") as stream:
        stream.write(text)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    check(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()), f"mount {target}")


def prctl(option: int, value: int, more: int = 0) -> None:
    """prctl(2)."""
    check(libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(more), 0, 0), f"prctl {option}")


def check(result: int, call: str) -> None:
    """Raise OSError where a call failed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        os._exit(126)
