"""Cached content hashes of input files."""

import os

import pytest

from blocks.site import Site
from imaging.io.atomic import content_hash
from tasks.engine import jobs as records
from tasks.engine.cache import fingerprint


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw" / "20170818" / "exposure.fits.fz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"pixels" * 1000)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    return path


def test_a_hash_is_computed_once(tmp_path, raw, monkeypatch):
    site = Site.at(tmp_path)
    first = fingerprint(site, raw)
    assert first.content_hash == content_hash(raw)
    assert first.path == "raw/20170818/exposure.fits.fz"
    monkeypatch.setattr(records, "content_hash", lambda path: pytest.fail("the file was read again"))
    assert fingerprint(site, raw) == first


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_read_again(tmp_path, raw, change):
    site = Site.at(tmp_path)
    first = fingerprint(site, raw)
    raw.write_bytes((b"PIXELS" if change == "time" else b"more pixels") * 1000)
    os.utime(raw, (1_500_000_000, 1_500_000_000 + (change == "time")))
    assert fingerprint(site, raw).content_hash == content_hash(raw) != first.content_hash


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path, raw):
    raw.touch()
    fingerprint(Site.at(tmp_path), raw)
    assert not (tmp_path / "state" / "fingerprints").exists()


def test_a_damaged_cache_file_is_written_again(tmp_path, raw):
    site = Site.at(tmp_path)
    first = fingerprint(site, raw)
    next((tmp_path / "state" / "fingerprints").iterdir()).write_text("{")
    assert fingerprint(site, raw) == first


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fingerprint(Site.at(tmp_path), tmp_path / "raw" / "nothing")
