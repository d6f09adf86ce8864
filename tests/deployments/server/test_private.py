"""Files for their owner alone, secrets in files, and the metrics for who has their credential."""

import os
import stat
import urllib.error
import urllib.request

import pytest

from blocks.site import Site
from deployments.cli.main import run
from deployments.server.identity import make_secret, metrics_token, rotate_secret
from deployments.server.metrics import serve_metrics
from deployments.server.private import LARGEST_SECRET_BYTES, close_to_others, open_private, read_secret, write_private
from imaging.errors import InputError


@pytest.fixture
def open_umask():
    """Let files be created for all, as far as the umask goes."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_files_are_created_for_their_owner_alone(tmp_path):
    write_private(tmp_path / "a", "text")
    open_private(tmp_path / "b").close()
    (tmp_path / "c").mkdir(mode=0o777)
    (tmp_path / "c" / "d").write_text("open")
    outside = tmp_path.parent / "outside"
    outside.write_text("open")
    (tmp_path / "c" / "link").symlink_to(outside)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"} == {0o600}
    close_to_others(tmp_path / "c")
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "c" / "d").stat().st_mode) == 0o600
    assert stat.S_IMODE(outside.stat().st_mode) == 0o666, "what a link leads to is not ours to close"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o644, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path, mode, capsys):
    path = tmp_path / "secret"
    path.write_text("s3cret-value\n")
    path.chmod(0o600)
    assert read_secret(path) == "s3cret-value"
    path.chmod(mode)
    with pytest.raises(InputError, match=rf"open to others.*mode {mode:03o}.*chmod 600") as refused:
        read_secret(path)
    assert "s3cret" not in refused.value.sentence()
    words = ["listen", "--client-id", "id", "--client-secret-file", str(path), "--site", str(tmp_path / "site")]
    assert run(words) == 1
    assert "open to others" in capsys.readouterr().err
    site = Site.at(tmp_path / "site")
    make_secret(site.state / "server")
    (site.state / "server" / "secret").chmod(mode)
    with pytest.raises(InputError, match=r"open to others.*rotate-secret --now"):
        make_secret(site.state / "server")
    assert run(["rotate-secret", "--now", "--site", str(site.root)]) == 0
    make_secret(site.state / "server")


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * (LARGEST_SECRET_BYTES + 1), b"\xff\xfe"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path, content):
    (tmp_path / "secret").write_bytes(content)
    (tmp_path / "secret").chmod(0o600)
    with pytest.raises(InputError, match="file of a secret"):
        read_secret(tmp_path / "secret")
    with pytest.raises(InputError, match=r"cannot be read.*missing"):
        read_secret(tmp_path / "missing")


def answered(port, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_metrics_beyond_this_machine_need_the_credential(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    site, other = Site.at(tmp_path / "site"), Site.at(tmp_path / "other")
    for each in (site, other):
        make_secret(each.state / "server")
    assert run(["metrics", "--write-credential", str(tmp_path / "credential"), "--site", str(site.root)]) == 0
    assert stat.S_IMODE((tmp_path / "credential").stat().st_mode) == 0o600
    token = (tmp_path / "credential").read_text()
    beyond, here = serve_metrics(site, 0, "0.0.0.0"), serve_metrics(site, 0)
    try:
        port = beyond.server_port
        assert answered(port) == 401
        assert answered(port, Authorization=f"Bearer {token}") == 200
        assert answered(port, Authorization=f"Bearer {metrics_token(other.state / 'server')}") == 401
        assert answered(port, Authorization=f"Basic {token}") == 401
        assert answered(here.server_port) == 200
        assert answered(here.server_port, Host="evil.example") == 401
        assert answered(here.server_port, Origin="https://evil.example") == 401
        rotate_secret(site.state / "server", keep_previous=False)
        assert answered(port, Authorization=f"Bearer {token}") == 401
    finally:
        for server in (beyond, here):
            server.shutdown()
            server.server_close()
