"""What a program cannot do that is shut in: attacks, system calls, limits."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from jobs.benchmarks.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[3]
CALL = "import ctypes\ncall = lambda *a: ctypes.CDLL(None, use_errno=True).syscall(*a)\n"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("TOPSECRET")
    return path


@pytest.mark.parametrize(
    "attack",
    [
        "assert open('{secret}').read() == 'TOPSECRET'",
        "assert open('/etc/passwd').read()",
        "assert open('/root/.bashrc').read()",
        "import os; assert 'MY_KEY' in os.environ",
        "import os; os.listdir('/proc')",
        "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
        "import socket; socket.socketpair()",
        "open('{secret}.written', 'w')",
        "open('/usr/lib/written', 'w')",
        "import os; os.mkdir('/written')",
        "import os; os.chmod('/usr/lib', 0o777)",
        "f = open('/tmp/x', 'wb')\nfor i in range(64): f.write(b'0' * (1 << 20))",
        "for i in range(200): open(f'/tmp/{{i}}', 'wb').write(b'0' * (1 << 19))",
        "for i in range(5000): open(f'/tmp/{{i}}', 'w')",
        "import os\nif os.fork() == 0: os._exit(0)",
        "import os\nif os.fork() == 0:\n  os.setsid()\n  import time; time.sleep(30)",
        "import subprocess; subprocess.run(['/bin/true'], check=True)",
        "import multiprocessing as m; p = m.Process(target=print); p.start()",
        "import os; os.posix_spawn('/usr/bin/true', ['true'], {{}})",
        "import threading as t, time\nfor i in range(5000): t.Thread(None, time.sleep, args=(9,), daemon=True).start()",
        CALL + "assert call(165, b'none', b'/tmp', b'tmpfs', 0, None) == 0  # mount",
        CALL + "assert call(272, 0x10000000) == 0  # unshare",
        CALL + "assert call(161, b'/tmp') == 0  # chroot",
        CALL + "assert call(101, 0, 0, 0, 0) == 0  # ptrace",
        CALL + "assert call(319, b'x', 0) > 0  # memfd_create",
        CALL + "assert call(29, 0, 1 << 30, 0o1600) >= 0  # shmget",
        CALL + "assert call(425, 8, 0) > 0  # io_uring_setup",
        CALL + "assert call(56, 0x11, 0, 0, 0, 0) >= 0  # clone",
        CALL + "assert call(41, 2, 1, 0) > 0  # socket",
        CALL + "assert call(0x40000000 + 57) >= 0  # fork of the x32 kind",
        "import os; os.kill({pid}, 0)",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "import os; os.setuid(0)",
        "import os; os.listdir('/dev')",
    ],
)
def test_an_attack_is_contained(sandbox: Sandbox, attack: str, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "hunter2")
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        outcome = sandbox.run(attack.format(secret=secret, port=port, pid=os.getpid()), 2)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not outcome.passed
    assert [path.name for path in secret.parent.iterdir()] == ["secret.txt"]
    assert not list(Path("/usr/lib").glob("written"))
    deadline = time.monotonic() + 1
    while left := {process.pid for process in psutil.Process().children(recursive=True)} - before:
        assert time.monotonic() < deadline, left


def test_the_signal_that_ended_a_program_is_told(sandbox: Sandbox) -> None:
    """As shells tell it: 128 and the number of SIGSEGV."""
    assert sandbox.run("import ctypes; ctypes.string_at(0)", 1).reason == "exit status 139"


def test_scratch_files_do_not_survive(sandbox: Sandbox) -> None:
    assert sandbox.run("open('/tmp/left', 'w')", 2).passed
    assert not sandbox.run("open('/tmp/left')", 2).passed


def test_it_contains_for_a_user_who_is_not_root(sandbox: Sandbox, secret: Path) -> None:
    python = Path("/usr/bin/python3.11")
    if os.geteuid() != 0 or not python.exists():
        pytest.skip("needs root, to become another user, and a Python that every user may run")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from jobs.benchmarks.sandbox import Sandbox\n"
        "with Sandbox() as s:\n"
        "  print(s.run('assert True', 2).passed, s.run('import os; os.fork()', 2).passed,\n"
        "    s.run(\"open('/usr/bin/python3.11', 'ab')\", 2).passed)\n"
    )
    ended = subprocess.run(
        [python, "-B", "-c", code], user=65534, group=65534, extra_groups=[], env={}, capture_output=True, text=True
    )
    assert ended.stdout == "True False False\n", ended.stderr


DENIED = {
    "processes": {"fork": 57, "vfork": 58, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311},
    "descriptors": {"pidfd_open": 434, "pidfd_getfd": 438, "name_to_handle_at": 303, "open_by_handle_at": 304},
    "sockets": {"socket": 41, "socketpair": 53, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    "namespaces": {"unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161},
    "mounts": {"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsmount": 432, "mount_setattr": 442},
    "kernel": {"perf_event_open": 298, "bpf": 321, "userfaultfd": 323, "kexec_load": 246, "kexec_file_load": 320},
    "modules": {"init_module": 175, "delete_module": 176, "finit_module": 313, "reboot": 169},
    "keys": {"add_key": 248, "request_key": 249, "keyctl": 250},
    "memory": {"shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240, "memfd_create": 319},
    "secrets": {"memfd_secret": 447},
}
"""System calls by name, numbered as in the kernel's table for x86-64."""


def test_the_kernel_refuses_each_denied_call(sandbox: Sandbox) -> None:
    numbers = {name: number for group in DENIED.values() for name, number in group.items()}
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def errno(number):\n  return libc.syscall(number, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno()\n"
        f"wrong = [name for name, number in {numbers}.items() if errno(number) != 1]\n"
        "assert not wrong, wrong\nassert errno(435) == 38, 'clone3'\nassert errno(9999) == 38, 'an unknown call'"
    )
    outcome = sandbox.run(code, 2)
    assert outcome.passed, outcome.reason


def test_a_program_sees_its_limits(sandbox: Sandbox) -> None:
    code = (
        "import os, resource as r\n"
        "for name, value in dict(AS=1 << 30, CPU=2, FSIZE=16 << 20, NOFILE=64, CORE=0, MEMLOCK=0).items():\n"
        "  assert r.getrlimit(getattr(r, 'RLIMIT_' + name)) == (value, value), name\n"
        "assert (os.getuid(), os.getgid(), os.getcwd()) == (65534, 65534, '/tmp')\n"
        "scratch, root = os.statvfs('/tmp'), os.statvfs('/')\n"
        "assert (scratch.f_blocks * scratch.f_frsize, scratch.f_files) == (16 << 20, 1024)\n"
        "assert scratch.f_flag & 7 == 6 and root.f_flag & 7 == 7, 'read-only 1, no set-user-id 2, no devices 4'\n"
        "assert set(os.environ) - {'LC_CTYPE'} == {'LD_LIBRARY_PATH', 'MALLOC_ARENA_MAX', 'HOME'}\n"
        "import ctypes; signal = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(signal)); assert signal.value == 9\n"
    )
    outcome = sandbox.run(code, 1.2)
    assert outcome.passed, outcome.reason
