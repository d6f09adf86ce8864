"""Attacks on the Dask cluster of a run: nobody connects without its certificate."""

import gc
import os
import socket
import urllib.request
from pathlib import Path

import distributed
import pytest

from blocks.cluster import ComputeCluster
from imaging.errors import InputError
from tasks.engine import cluster as started_cluster
from tasks.engine.cluster import Cluster
from tasks.engine.dask_security import read_certificate, require_encryption, with_certificate, write_certificate


@pytest.fixture(scope="module")
def run():
    """The cluster of a run: one worker process of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(started_cluster, "_require_server", lambda: None)
        patch.delenv(started_cluster.ADDRESS_VARIABLE, raising=False)
        cluster = Cluster(ComputeCluster(n_workers=1, memory_limit_gb=1))
        yield cluster.client()
        cluster.close()


@pytest.mark.dask
def test_the_run_itself_works(run):
    assert run.scheduler.address.startswith("tls://127.0.0.1:")
    assert run.submit(sum, [1, 2]).result(timeout=30) == 3
    assert [worker["nanny"][:6] for worker in run.scheduler_info()["workers"].values()] == ["tls://"]


@pytest.mark.dask
@pytest.mark.parametrize("scheme", ["tcp", "tls without a certificate", "tls with a certificate of their own"])
@pytest.mark.filterwarnings("ignore")
def test_a_strange_client_runs_nothing(run, scheme, tmp_path):
    place = run.scheduler.address.partition("://")[2]
    security = None
    if scheme != "tcp":
        write_certificate(tmp_path / "own")
        security = read_certificate(tmp_path / "own")
    if scheme == "tls without a certificate":
        security = distributed.Security(require_encryption=True, tls_ca_file=security.tls_ca_file)
    workers = [address.partition("://")[2] for address in run.scheduler_info()["workers"]]
    for target in (place, *workers):
        with pytest.raises((OSError, TypeError)):
            distributed.Client(f"{scheme[:3]}://{target}", security=security, timeout=2)
    gc.collect()  # the sockets of the failed clients


@pytest.mark.dask
def test_what_is_answered_without_a_certificate_shows_and_does_nothing(run):
    """Scheduler and workers listen on the loopback alone; their HTTP servers know health and metrics."""
    ports = [run.scheduler_info(n_workers=-1)["services"]["dashboard"]]
    ports += [w["services"]["dashboard"] for w in run.scheduler_info()["workers"].values() if w["services"]]
    for port in ports:
        for path in ("api/v1/retire_workers", "info/main/workers.html", "status", "json/counts.json"):
            with pytest.raises(OSError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5)
        with socket.socket() as outside, pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            outside.settimeout(2)
            outside.connect((_own_address(), port))


def _own_address() -> str:
    """An address of this machine other than the loopback's usual one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return probe.getsockname()[0]


def test_the_key_of_a_certificate_is_its_owner_s_alone(tmp_path):
    folder = tmp_path / "certificate"
    paths = write_certificate(folder)
    assert [path.stat().st_mode & 0o777 for path in (folder, *paths)] == [0o700, 0o600, 0o600]
    assert read_certificate(folder).require_encryption
    with pytest.raises(InputError, match="a certificate is there already"):
        write_certificate(folder)
    paths[1].chmod(0o640)
    with pytest.raises(InputError, match=r"others can read the key.*mode 640.*chmod 600"):
        read_certificate(folder)
    paths[0].unlink()
    with pytest.raises(InputError, match="make-certificate"):
        read_certificate(folder)


@pytest.mark.parametrize(
    ("address", "allowed", "refused"),
    [
        ("tcp://10.0.0.1:8786", False, True),
        ("10.0.0.1:8786", False, True),
        ("ws://10.0.0.1:8786", False, True),
        ("tcp://10.0.0.1:8786", True, False),
        ("tls://10.0.0.1:8786", False, False),
    ],
)
def test_a_scheduler_without_tls_needs_a_word(address, allowed, refused):
    if refused:
        with pytest.raises(InputError, match="run programs as its user"):
            require_encryption(address, is_allowed=allowed)
    else:
        require_encryption(address, is_allowed=allowed)


@pytest.mark.filterwarnings("ignore")
def test_batch_systems_get_a_certificate_in_the_folder_that_their_jobs_share(tmp_path):
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    given = {"cores": 1, "memory": "4 GB", "log_directory": str(tmp_path), "scheduler_options": {"host": "127.0.0.1"}}
    with with_certificate("dask_jobqueue.SLURMCluster", given) as arguments:
        with dask_jobqueue.SLURMCluster(**arguments) as cluster:
            assert cluster.scheduler_address.startswith("tls://")
            sockets = cluster.scheduler.http_server._sockets.values()
            assert {one.getsockname()[0] for one in sockets} == {"127.0.0.1"}, "dask-jobqueue opens all interfaces"
            words = cluster.job_script().split()
        key = Path(words[words.index("--tls-key") + 1])
        assert key.parent.parent == tmp_path
        for path in (key, key.parent):
            assert path.stat().st_mode & 0o077 == 0
            assert path.stat().st_uid == os.geteuid()
    assert not key.parent.exists()


def test_a_class_without_tls_is_left_as_it_is():
    for name, given in (("builtins.dict", {"a": 1}), ("distributed.LocalCluster", {"protocol": "tcp"})):
        with with_certificate(name, given) as arguments:
            assert arguments == given
