"""Two hosts on this machine: network, process and name namespaces, joined by a cable that can be pulled.

The first host is the process that calls :func:`enter`; the second one is started by it. The kernel ends every process
of a host with its first process, and every host with the one that started it; namespaces go with their processes.
The cable is a pair of TUN devices between which a thread carries packets, so that it can lose and hold them without
``netem``, which a kernel may lack. The shared folder is a file system of its own, which can be frozen.
"""

import fcntl
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ADDRESSES = ("10.213.77.1", "10.213.77.2")
"""Addresses of the first and the second host."""

DEVICES = ("cable-a", "cable-b")

PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "fsfreeze", "mkfs.ext4", "mount", "umount", "hostname")

NAMESPACES = ("--net", "--pid", "--uts", "--mount", "--fork", "--kill-child", "--mount-proc")

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

PACKET_BYTES = 65536

FOLDER_GB = 6


def why_not() -> str:
    """Return why this machine cannot have two hosts; empty if it can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not Path("/dev/net/tun").exists():
        missing.append("/dev/net/tun")
    if missing:
        return f"this machine lacks {', '.join(missing)}"
    tried = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"namespaces cannot be made: {tried.stderr.strip()}"


def enter(module: str, words: Sequence[str], *, stdout: int | None = None) -> int:
    """Run a module of the benches as the first host, with a shared folder as its first argument; return its exit code.

    Parameters
    ----------
    module
        The module, run with ``python -m``.
    words
        Further arguments.
    stdout
        Where its output goes; None for this process's.
    """
    with tempfile.TemporaryDirectory(prefix="gw-two-hosts-") as folder:
        shared, image, temporary = (Path(folder) / name for name in ("shared", "image", "tmp"))
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user
        shared.mkdir()
        temporary.mkdir()
        with image.open("wb") as stream:
            stream.truncate(FOLDER_GB * 2**30)
        _do("mkfs.ext4", "-q", str(image))
        _do("mount", "-o", "loop", str(image), str(shared))
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, sys.executable, "-m", module, str(shared)]
        environment = os.environ | {"TMPDIR": str(temporary)}
        root = Path(__file__).parents[1]
        process = subprocess.Popen([*command, *words], stdout=stdout, cwd=root, env=environment)
        try:
            return process.wait()
        finally:
            with suppress(psutil.NoSuchProcess):
                for member in psutil.Process(process.pid).children():
                    member.kill()
            process.kill()
            subprocess.run(["fsfreeze", "--unfreeze", str(shared)], capture_output=True, check=False)
            process.wait()
            subprocess.run(["umount", "--lazy", str(shared)], check=False)
            signal.signal(signal.SIGTERM, before)


class Cable:
    """Carries packets between the two hosts.

    Attributes
    ----------
    loss
        Share of packets that are lost.
    is_stalled
        Whether packets wait.
    """

    def __init__(self, seed: int) -> None:
        self.loss = 0.0
        self.is_stalled = False
        self._rng = random.Random(seed)
        self._ends = [_device(name) for name in DEVICES]
        self._lock = threading.Lock()
        threading.Thread(target=self._carry, name="cable", daemon=True).start()

    def replace_far_end(self) -> None:
        """Make a new device for the second host, whose old one went with it."""
        with self._lock:
            os.close(self._ends[1])
            self._ends[1] = _device(DEVICES[1])

    def _carry(self) -> None:
        while True:
            with self._lock:
                ends = list(self._ends)
            if self.is_stalled:
                time.sleep(0.05)
                continue
            try:
                for end in select.select(ends, [], [], 0.2)[0]:
                    packet = os.read(end, PACKET_BYTES)
                    if not self.loss or self._rng.random() >= self.loss:
                        os.write(ends[1 - ends.index(end)], packet)
            except OSError:  # a device that is down, or whose host is gone
                time.sleep(0.05)


class SecondHost:
    """The second host.

    Parameters
    ----------
    cable
        The cable to it.
    """

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self._first: psutil.Process | None = None
        self._has_run = False

    @property
    def is_up(self) -> bool:
        """Whether the host runs."""
        return self._first is not None and self._first.is_running() and self._first.status() != psutil.STATUS_ZOMBIE

    def boot(self) -> None:
        """Start the host and connect it."""
        if self._has_run:
            self.cable.replace_far_end()
        self._has_run = True
        process = subprocess.Popen(["unshare", *NAMESPACES, "sleep", "infinity"])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            children = [c for c in psutil.Process(process.pid).children() if c.name() == "sleep"]
            if children:
                self._first = children[0]
                break
            time.sleep(0.05)
        if self._first is None:
            raise RuntimeError("the second host did not start")
        _do("ip", "link", "set", DEVICES[1], "netns", str(self._first.pid))
        self.do("hostname", "host-b")
        self.do("ip", "link", "set", "lo", "up")
        self.do("ip", "address", "add", f"{ADDRESSES[1]}/24", "dev", DEVICES[1])
        self.connect()

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start a program there."""
        with log.open("ab") as stream:
            subprocess.Popen(self._inside(words), env=dict(environment), stdout=stream, stderr=subprocess.STDOUT)

    def do(self, *words: str) -> None:
        """Run a command there to its end."""
        _do(*self._inside(words))

    def connect(self) -> None:
        """Set its link up."""
        self.do("ip", "link", "set", DEVICES[1], "up")

    def cut_off(self) -> None:
        """Set its link down."""
        self.do("ip", "link", "set", DEVICES[1], "down")

    def kill(self) -> None:
        """Cut it off, so that nobody hears of its end, and end all that runs there."""
        if self.is_up and self._first is not None:
            self.cut_off()
            self._first.kill()

    def _inside(self, words: Sequence[str]) -> list[str]:
        if self._first is None:
            raise RuntimeError("the second host does not run")
        return ["nsenter", "--target", str(self._first.pid), "--net", "--pid", "--uts", "--mount", *words]


@contextmanager
def two_hosts(seed: int) -> Iterator[SecondHost]:
    """Make this process the first host, start the second one and connect them."""
    _do("hostname", "host-a")
    _do("ip", "link", "set", "lo", "up")
    cable = Cable(seed)
    _do("ip", "address", "add", f"{ADDRESSES[0]}/24", "dev", DEVICES[0])
    _do("ip", "link", "set", DEVICES[0], "up")
    second = SecondHost(cable)
    second.boot()
    try:
        yield second
    finally:
        second.kill()


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Let every write to the shared folder wait inside the ``with`` block."""
    _do("fsfreeze", "--freeze", str(folder))
    try:
        yield
    finally:
        _do("fsfreeze", "--unfreeze", str(folder))


def _do(*words: str) -> None:
    subprocess.run(words, check=True)


def _device(name: str) -> int:
    """Create a TUN device; return its file descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor
