"""Whose server answers, and who may ask it: the secret of a site and what is derived from it.

The site's server folder holds a secret, which is never sent. The server answers a nonce with a keyed hash of the nonce,
its port and the folder's resolved path: a stranger has not the secret, one that passes the nonce on not the port, and
the server of a copied site not the path. Another keyed hash is the string with which Prefect's clients authenticate
(``PREFECT_API_AUTH_STRING``); it is sent only to a server that has proved whose it is.
"""

import base64
import hmac
import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from deployments.server.private import make_private_folder, read_secret, write_private
from imaging.errors import InputError

AUTH_VARIABLE = "PREFECT_API_AUTH_STRING"
"""Environment variable with the string of Prefect's clients."""

USER = "gw-workflow"
"""User name in the string of the clients."""

PREVIOUS = "secret.previous"
"""File of the secret that was replaced while the server runs."""

PATH = "/gw-workflow/identity"
"""Path at which the server proves whose it is."""

ANSWER_BYTES = 1000
"""Largest answer that is read."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that are reached without a proxy."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_url(request: str | urllib.request.Request, timeout_s: float) -> "IO[bytes]":
    """Open an address, on this machine without the proxies of the environment.

    Raises
    ------
    OSError, ValueError
        If nothing answers, or not with success.
    """
    address = request if isinstance(request, str) else request.full_url
    opener = _DIRECT.open if urlsplit(address).hostname in LOOPBACK else urllib.request.urlopen
    answer: IO[bytes] = opener(request, timeout=timeout_s)
    return answer


def without_proxy(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables that exclude this machine from proxies, beside the hosts named already."""
    named = ",".join(filter(None, (environment.get("NO_PROXY"), environment.get("no_proxy"))))
    hosts = dict.fromkeys(filter(None, (host.strip() for host in named.split(","))))
    # An asterisk excludes all hosts, but urllib understands it only alone.
    value = "*" if "*" in hosts else ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    return {"NO_PROXY": value, "no_proxy": value}


def make_secret(folder: Path) -> None:
    """Create the secret of a server folder, for its owner alone, if there is none.

    Raises
    ------
    InputError
        If the folder belongs to another user, or others may read the secret.
    """
    path = folder / "secret"
    try:
        make_private_folder(folder)
        if not path.exists():
            write_private(path, secrets.token_hex(32) + "\n")
    except PermissionError as error:
        remedy = "work as that user, or set PREFECT_API_URL to a server that you may use"
        raise InputError("the site's server belongs to another user", value=folder, remedy=remedy) from error
    read_secret(path, "then gw-workflow rotate-secret --now, since others may have read it")


def rotate_secret(folder: Path, *, keep_previous: bool) -> None:
    """Replace the secret of a server folder; a running server takes it up at once.

    Parameters
    ----------
    folder
        Folder of the server.
    keep_previous
        Whether strings of the previous secret are accepted until the server ends, so that what runs goes on.
    """
    previous = folder / PREVIOUS
    if keep_previous:
        write_private(previous, (folder / "secret").read_text())
    else:
        previous.unlink(missing_ok=True)
    write_private(folder / "secret", secrets.token_hex(32) + "\n")


def keyed_hash(folder: Path, *words: str) -> str:
    """Return the hash of words, keyed with the secret of a server folder, hexadecimal.

    Raises
    ------
    OSError
        If the folder has no secret that can be read.
    """
    return _keyed((folder / "secret").read_bytes(), *words)


def _keyed(secret: bytes, *words: str) -> str:
    # No word contains NUL: what is hashed for one use is never hashed for another.
    return hmac.new(secret, "\0".join(words).encode(), "sha256").hexdigest()


def proof(folder: Path, nonce: str, port: int) -> str:
    """Return what the server of a folder at a port answers to a nonce.

    Raises
    ------
    OSError
        If the folder has no secret that can be read.
    """
    return keyed_hash(folder, "identity", nonce.replace("\0", ""), str(port), str(folder.resolve()))


def auth_string(folder: Path) -> str:
    """Return the string with which clients of the server of a folder authenticate.

    Raises
    ------
    OSError
        If the folder has no secret that can be read.
    """
    return f"{USER}:{keyed_hash(folder, 'clients')}"


def metrics_token(folder: Path) -> str:
    """Return the token with which Prometheus reads the metrics of a site; it opens nothing else.

    Raises
    ------
    OSError
        If the folder has no secret that can be read.
    """
    return keyed_hash(folder, "metrics")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a server folder accepts: of its secret, and of one that was replaced while the server runs.

    Attributes
    ----------
    strings
        Strings of Prefect's clients.
    metrics
        Tokens for the metrics.
    """

    strings: tuple[str, ...]
    metrics: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> "Accepted":
        """Return what is accepted now."""
        found = [path.read_bytes() for path in _secrets(folder) if path.exists()]
        strings = tuple(f"{USER}:{_keyed(secret, 'clients')}" for secret in found)
        return cls(strings, tuple(_keyed(secret, "metrics") for secret in found))

    @staticmethod
    def stamps(folder: Path) -> list[tuple[int, int] | None]:
        """Return numbers that change when the secrets do."""
        stamps: list[tuple[int, int] | None] = []
        for path in _secrets(folder):
            try:
                found = path.stat()
                stamps.append((found.st_mtime_ns, found.st_ino))
            except OSError:
                stamps.append(None)
        return stamps


def is_among(text: str, accepted: tuple[str, ...]) -> bool:
    """Whether a text is one of those accepted; the time that this takes says nothing about them."""
    given = text.encode("utf-8", "surrogateescape")
    return sum(hmac.compare_digest(given, each.encode()) for each in accepted) > 0


def _secrets(folder: Path) -> tuple[Path, Path]:
    return folder / "secret", folder / PREVIOUS


_own: dict[str, Path] = {}
"""Addresses at which a server has proved to this process that it is that of a folder."""


def authorization(api_url: str) -> dict[str, str]:
    """Return the header with which the server at an address is asked; empty if it needs none.

    A site's own server gets the site's string, that of ``PREFECT_API_URL`` the one of ``PREFECT_API_AUTH_STRING``.
    """
    text = ""
    if api_url in _own:
        text = auth_string(_own[api_url])
    elif api_url == os.environ.get("PREFECT_API_URL"):
        text = os.environ.get(AUTH_VARIABLE, "")
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"} if text else {}


def is_own(api_url: str, folder: Path, timeout_s: float) -> bool:
    """Whether the server of a folder answers at an address; only a nonce is sent there.

    Parameters
    ----------
    api_url
        Address of the API.
    folder
        Folder of the server.
    timeout_s
        Timeout of the answer.
    """
    nonce = secrets.token_hex(16)
    _own.pop(api_url, None)
    try:
        with open_url(f"{api_url.removesuffix('/api')}{PATH}?nonce={nonce}", timeout_s) as answer:
            given = str(json.loads(answer.read(ANSWER_BYTES))["proof"])
        expected = proof(folder, nonce, urlsplit(api_url).port or 0)
    except (OSError, ValueError, LookupError, TypeError):
        return False
    if not hmac.compare_digest(given.encode(), expected.encode()):
        return False
    _own[api_url] = folder
    return True


def is_own_here(named: str, folder: Path, timeout_s: float = 5.0) -> bool:
    """Whether a server that is named by its address is that of a folder, as in the runs that ``serve`` starts.

    Servers on other machines are not asked.
    """
    is_here = urlsplit(named).hostname in LOOPBACK and (folder / "secret").exists()
    return is_here and is_own(named, folder, timeout_s)


def require_access(api_url: str, timeout_s: float = 5.0) -> None:
    """Raise if a server refuses what :func:`authorization` gives; what fails otherwise is tried again later.

    Raises
    ------
    InputError
        If it refuses.
    """
    request = urllib.request.Request(f"{api_url}/version", headers=authorization(api_url))  # noqa: S310
    try:
        open_url(request, timeout_s).close()
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.UNAUTHORIZED:
                from blocks.saved import no_access

                raise no_access(api_url) from error
    except (OSError, ValueError):
        return


def listener(port: int) -> str:
    """Describe the process that listens at a port; nothing is sent to it."""
    import psutil

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.pid and connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                words = " ".join(psutil.Process(connection.pid).cmdline())
                return f"process {connection.pid} ({words[:200]})"
    return "a process of another user, or of the system"
