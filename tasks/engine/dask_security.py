"""Who may connect to a Dask scheduler: whoever does may run any function as its user, so it asks for a certificate.

A cluster that is started for a run gets a certificate of its own: for local workers its key is never on a disk, for the
jobs of a batch system it is a file for its owner alone in a folder that the jobs share. A running scheduler is used
with ``tls://`` and the certificate in a folder that :func:`write_certificate` makes.
"""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from imaging.errors import InputError

if TYPE_CHECKING:
    from distributed import Security

FILES = ("certificate.pem", "key.pem")
"""Names of the certificate and its key."""

HTTP_ROUTES = ["distributed.http.scheduler.prometheus", "distributed.http.health"]
"""What schedulers answer over HTTP, which asks for no certificate; Dask's default can retire workers."""

WORKER_HTTP_ROUTES = ["distributed.http.health"]
"""What workers answer over HTTP; Dask's default shows the arguments of running tasks."""


def write_certificate(folder: Path) -> list[Path]:
    """Write a new certificate, which signs itself and holds for a year, and its key, for their owner alone.

    Raises
    ------
    InputError
        If there are such files; a running scheduler may use them.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    from distributed import Security

    made = Security.temporary()
    paths = [folder / name for name in FILES]
    for path, text in zip(paths, (made.tls_client_cert, made.tls_client_key), strict=True):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            remedy = "name another folder, or remove the files after the scheduler was stopped"
            raise InputError("a certificate is there already", value=path, remedy=remedy) from error
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
    return paths


def read_certificate(folder: Path) -> "Security":
    """Return how to connect with the certificate of a folder.

    Raises
    ------
    InputError
        If it is missing, or its key can be read by others.
    """
    certificate, key = (folder / name for name in FILES)
    for path in (certificate, key):
        if not os.access(path, os.R_OK):
            remedy = "make it with gw-workflow make-certificate FOLDER, and start scheduler and workers with it"
            raise InputError("no certificate of the Dask scheduler", value=path, remedy=remedy)
    if key.stat().st_mode & 0o077:
        raise InputError(
            "others can read the key of the Dask scheduler",
            value=f"{key}, mode {key.stat().st_mode & 0o777:o}",
            limit="mode 600",
            remedy=f"chmod 600 {key}; make a new one if somebody may have read it",
        )
    both = {"ca_file": certificate}
    for role in ("client", "scheduler", "worker"):
        both |= {f"{role}_cert": certificate, f"{role}_key": key}
    from distributed import Security

    return Security(require_encryption=True, **{f"tls_{name}": str(path) for name, path in both.items()})


@contextmanager
def with_certificate(cluster_class: str, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of a cluster class with a certificate if it takes one, and its HTTP on the loopback.

    What the arguments state stays as it is. The key for jobs of a batch system is a file in a folder of its own, which
    is removed after the ``with`` block.
    """
    arguments = dict(arguments)
    module, _, name = cluster_class.rpartition(".")
    kind = getattr(import_module(module), name)
    known = {word for each in kind.__mro__ for word in inspect.signature(each.__init__).parameters}
    if "scheduler_options" in known:
        quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # dask-jobqueue: port 8787 of all interfaces
        arguments["scheduler_options"] = quiet | arguments.get("scheduler_options", {})
    is_remote = arguments.get("processes") is not False
    with ExitStack() as opened:
        if is_remote and "security" in known and not {"security", "protocol"} & set(arguments):
            if "shared_temp_directory" in known:
                shared = arguments.get("shared_temp_directory") or arguments.get("log_directory") or "."
                Path(shared).mkdir(parents=True, exist_ok=True)
                folder = Path(opened.enter_context(TemporaryDirectory(prefix=".dask-certificate-", dir=shared)))
                write_certificate(folder.resolve())
                arguments["security"] = read_certificate(folder.resolve())
            else:
                from distributed import Security

                arguments["security"] = Security.temporary()
        yield arguments


def require_encryption(address: str, *, is_allowed: bool) -> None:
    """Refuse a scheduler that asks for no certificate.

    Parameters
    ----------
    address
        Address of the scheduler.
    is_allowed
        Whether the user accepts one without.

    Raises
    ------
    InputError
        If connections to it are not encrypted.
    """
    if is_allowed or address.startswith(("tls://", "inproc://")):
        return
    raise InputError(
        "everybody who reaches this Dask scheduler can run programs as its user",
        value=address,
        limit="tls://",
        remedy="start it with a certificate (docs/clusters.md), or set Insecure in the block Compute Cluster or "
        "GW_WORKFLOW_DASK_INSECURE=1 if only you reach it",
    )
