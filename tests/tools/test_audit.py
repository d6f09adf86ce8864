"""The record of the last audit of the dependencies ends after 90 days, and with the lock files."""

import json
from datetime import date

import pytest

from tools.audit import LOCKS, ROOT, complaint, digest


def test_the_record_is_of_the_present_lock_files():
    assert json.loads((ROOT / "audit.json").read_text())["locks"] == digest(ROOT)


@pytest.mark.parametrize(("today", "said"), [("2026-04-01", ""), ("2026-04-02", "91 days ago")])
def test_a_record_ends(tmp_path, today, said):
    for name in LOCKS:
        (tmp_path / name).write_text("numpy==2.1")
    record = {"date": "2026-01-01", "note": "", "locks": digest(tmp_path)}
    (tmp_path / "audit.json").write_text(json.dumps(record))
    assert complaint(tmp_path, date.fromisoformat(today)).endswith(said)
    assert bool(complaint(tmp_path, date.fromisoformat(today))) == bool(said)
    (tmp_path / LOCKS[0]).write_text("numpy==2.2")
    assert "changed" in complaint(tmp_path, date.fromisoformat(today))
