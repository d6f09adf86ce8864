"""Whose server answers: the proof that an embedded server belongs to a site.

The site's server folder holds a secret. The server answers a nonce with a keyed hash of the nonce and of the folder's
resolved path: a stranger has not the secret, and the server of a copied site not the path.
"""

import hmac
import json
import os
import secrets
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from imaging.errors import InputError

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
        If the folder belongs to another user.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
        path = folder / "secret"
        if path.exists():
            return
        part = folder / f"secret.{os.getpid()}"
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        part.replace(path)
    except PermissionError as error:
        remedy = "work as that user, or set PREFECT_API_URL to a server that you may use"
        raise InputError("the site's server belongs to another user", value=folder, remedy=remedy) from error


def proof(folder: Path, nonce: str) -> str:
    """Return the keyed hash of a nonce and the resolved path of a server folder, hexadecimal.

    Raises
    ------
    OSError
        If the folder has no secret that can be read.
    """
    secret = (folder / "secret").read_bytes()
    return hmac.new(secret, f"{nonce}\n{folder.resolve()}".encode(), "sha256").hexdigest()


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
    try:
        with open_url(f"{api_url.removesuffix('/api')}{PATH}?nonce={nonce}", timeout_s) as answer:
            given = str(json.loads(answer.read(ANSWER_BYTES))["proof"])
        return hmac.compare_digest(given.encode(), proof(folder, nonce).encode())
    except (OSError, ValueError, LookupError, TypeError):
        return False
