"""Other users of this machine, for tests that root runs: commands of a user whose rights are those of no one else."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]

GROUP, ALICE, BOB, STRANGER = 40010, 40001, 40002, 40003
"""Numbers of a group and of users, which need no names."""

WHY_NOT = "only root becomes another user (and in containers only one that may mount)"


def can_be_others() -> bool:
    """Whether commands can run as other users."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def _hidden() -> dict[Path, list[Path]]:
    """Return the folders that other users may not search, and what of the interpreter and the code is below each."""
    found: dict[Path, list[Path]] = {}
    for needed in dict.fromkeys(Path(each).resolve() for each in (sys.base_prefix, sys.prefix, ROOT)):
        closed = [folder for folder in reversed(needed.parents) if not folder.stat().st_mode & 0o001]
        if closed:
            found.setdefault(closed[0], []).append(needed)
    return found


def command_of(user: int, words: Sequence[object], *, umask: int = 0o022, groups: Sequence[int] = ()) -> list[str]:
    """Return the words of a command that another user runs, who sees interpreter and code wherever they are.

    Parameters
    ----------
    user
        Number of the user, and of a group of its own.
    words
        Words of the command.
    umask
        Its umask.
    groups
        Numbers of further groups.
    """
    # In a file system view of its own the folder is empty but for what is needed.
    lines = ["set -e", "mount -t tmpfs tmpfs /mnt"]
    for hidden, (folder, needed) in enumerate(_hidden().items()):
        places = {f"/mnt/{hidden}-{number}": shlex.quote(str(path)) for number, path in enumerate(needed)}
        lines += [f"mkdir {place}; mount --bind {path} {place}" for place, path in places.items()]
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(folder))}")
        lines += [f"mkdir -p {path}; mount --bind {place} {path}" for place, path in places.items()]
    rights = f"--groups {','.join(map(str, groups))}" if groups else "--clear-groups"
    lines.append(
        f"umask {umask:03o}; exec setpriv --reuid {user} --regid {user} {rights} {shlex.join(map(str, words))}"
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]


@contextmanager
def home_of(user: int) -> Iterator[dict[str, str]]:
    """Make a home folder for a user inside the ``with`` block; yield the environment of its commands."""
    with tempfile.TemporaryDirectory(prefix=f"home-{user}-", ignore_cleanup_errors=True) as home:
        os.chown(home, user, user)
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "OMP_NUM_THREADS")}
        settings = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        yield kept | settings | {"HOME": home, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def gw_workflow(*words: object) -> list[object]:
    """Return the words of a command of the project."""
    return [sys.executable, "-m", "deployments.cli.main", *words]
