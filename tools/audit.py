"""Whether the locked dependencies were audited within 90 days: ``python -m tools.audit [--passed NOTE]``.

Run ``pip-audit -r requirements.lock`` and ``pip-audit -r requirements-dev.lock`` where its data can be reached, renew
what it names, and record the result with ``--passed``. Without the option a record that is too old, or that is not of
the present lock files, ends with exit code 1.
"""

import hashlib
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LOCKS = ("requirements.lock", "requirements-dev.lock")

VALID_DAYS = 90


def digest(root: Path) -> str:
    """Return the hash of the lock files of a checkout."""
    return hashlib.sha256(b"".join((root / name).read_bytes() for name in LOCKS)).hexdigest()


def complaint(root: Path, today: date) -> str:
    """Return what is wrong with the record of the last audit; empty if nothing is."""
    record = json.loads((root / "audit.json").read_text(encoding="utf-8"))
    age = (today - date.fromisoformat(record["date"])).days
    if record["locks"] != digest(root):
        return "the lock files have changed since the last audit"
    return f"the last audit was {age} days ago" if age > VALID_DAYS else ""


def main() -> None:
    """Check or write the record."""
    today = datetime.now(UTC).date()
    if sys.argv[1:2] == ["--passed"]:
        record = {"date": today.isoformat(), "note": " ".join(sys.argv[2:]), "locks": digest(ROOT)}
        (ROOT / "audit.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    elif wrong := complaint(ROOT, today):
        sys.exit(f"{wrong}; run pip-audit, then python -m tools.audit --passed NOTE")


if __name__ == "__main__":
    main()
