"""Seeded damage to files for :mod:`bench.faults`: of bytes, and of what a format holds.

The damage of a format leaves the file well-formed: checksums are made anew, so that only the values are nonsense.
"""

import io
import json
import math
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"

CARD_TEXTS = ("NaN", "Infinity", "-1", "0", "1E300", "4611686018427387904", "-1099511627776", "'text'", "1,5", "''")
"""Texts that replace the value of a card."""

VALUES: tuple[Any, ...] = (None, "text", math.nan, math.inf, -1, 0, 1e300, 1 << 62, [], {}, "\u00e9\u4e2d", True)
"""What replaces a value of a JSON document."""

DEPTH = 100_000
"""Levels of a deep JSON document."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One damaged file.

    Attributes
    ----------
    name
        What was done.
    content
        The bytes.
    keeps_sums
        Whether the checksums in the file are those of the undamaged one.
    removes
        Whether a card was removed: a value that is unknown then is right.
    """

    name: str
    content: bytes
    keeps_sums: bool = False
    removes: bool = False


def of_bytes(content: bytes, rng: random.Random) -> Iterator[Mutation]:
    """Yield damage that knows nothing of the format."""
    size = max(len(content), 1)
    for n in range(16):
        place = rng.randrange(min(size, 3000) if n < 8 else size)
        yield Mutation(f"bit at {place}", _put(content, place, bytes([content[place] ^ 1 << rng.randrange(8)])))
    for share in (0.03, 0.2, 0.5, 0.8, 0.97):
        yield Mutation(f"cut at {share}", content[: round(share * size)])
    yield Mutation("last byte cut", content[:-1])
    for n in range(6):
        place, length = rng.randrange(size), min(rng.choice((4, 80, 3000)), size)
        junk = bytes(length) if n % 2 else rng.randbytes(length)
        yield Mutation(f"{'zeros' if n % 2 else 'junk'} at {place}", _put(content, place, junk)[:size])
    yield Mutation("empty", b"")
    yield Mutation("zeros", bytes(size))
    yield Mutation("junk", rng.randbytes(size))
    yield Mutation("HTML page", HTML)
    yield Mutation("UTF-16", content.decode("latin-1").encode("utf-16"))
    yield Mutation("junk behind", content + rng.randbytes(3000))
    yield Mutation("not ASCII", _put(content, rng.randrange(size), "\u00e9\u4e2d".encode()))


def _put(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def of_fits(content: bytes, rng: random.Random) -> Iterator[Mutation]:
    """Yield a file with every header card removed or with another value, and with other pixels and rows."""
    with fits.open(io.BytesIO(content), disable_image_compression=True) as hdus:
        cards = [(n, key) for n, hdu in enumerate(hdus) for key in hdu.header if key not in SKIPPED]
        places = [(hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datLoc"]) for hdu in hdus]
    pairs = [(n, key, text) for n, key in cards for text in (None, *CARD_TEXTS)]
    for n, key, text in rng.sample(pairs, min(len(pairs), 90)):
        changed = _with_card(content, places[n], key, text)
        if changed is not None:
            yield Mutation(f"HDU {n} {key} = {text}", changed, removes=text is None)
    for name, change in HDU_CHANGES.items():
        for n in range(len(places)):
            changed = _with_hdu(content, n, change)
            if changed is not None:
                yield Mutation(f"HDU {n} {name}", changed)


SKIPPED = ("COMMENT", "HISTORY", "", "CHECKSUM", "DATASUM", "SIMPLE", "XTENSION")
"""Cards that are left alone: text, checksums, and what makes the file FITS."""


def _with_card(content: bytes, place: tuple[int, int], key: str, text: str | None) -> bytes | None:
    """Return a file with another value of a card, without checksums in its HDU."""
    header = content[place[0] : place[1]]
    cards = [header[i : i + 80] for i in range(0, len(header), 80)]
    for i, card in enumerate(cards):
        if card[:8].rstrip() == key.encode():
            value = b"" if text is None else f"{key:8s}= {text:>20s}".encode()
            cards[i] = value.ljust(80)[:80]
        elif card[:8].rstrip() in (b"CHECKSUM", b"DATASUM"):
            cards[i] = b" " * 80
    changed = b"".join(cards)
    return None if changed == header else content[: place[0]] + changed + content[place[1] :]


def _with_hdu(content: bytes, n: int, change: Callable[[Any], Any]) -> bytes | None:
    """Return a file with other data in one HDU and new checksums; None if the change is not for its kind."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(content), disable_image_compression=True) as hdus:
            hdu = hdus[n]
            if hdu.data is None or hdu.header.get("ZIMAGE"):
                return None
            try:
                new = change(hdu)
                if new is None:
                    return None
                hdu.data = new
                out = io.BytesIO()
                hdus.writeto(out, checksum=True, output_verify="ignore")
            except (ValueError, TypeError, AttributeError, OverflowError, fits.VerifyError):
                return None
            return out.getvalue()


def _filled(value: float) -> Callable[[Any], Any]:
    def fill(hdu: Any) -> Any:  # noqa: ANN401
        data = hdu.data.copy()
        if isinstance(hdu, fits.BinTableHDU):
            for name in data.names:
                if data[name].dtype.kind == "f":
                    data[name][...] = value
            return data
        if data.dtype.kind != "f":
            return None if not math.isfinite(value) else np.full_like(data, min(max(value, -30000), 30000))
        return np.full_like(data, value)

    return fill


def _image(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda hdu: None if isinstance(hdu, fits.BinTableHDU) else change(hdu.data)


def _rows(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda hdu: change(hdu.data) if isinstance(hdu, fits.BinTableHDU) else None


HDU_CHANGES: dict[str, Callable[[Any], Any]] = {
    **{f"all {value}": _filled(value) for value in (math.nan, math.inf, -1e9, 0.0, 1e30)},
    "one row of pixels": _image(lambda data: data[..., :1, :]),
    "transposed": _image(lambda data: data.T),
    "a cube": _image(lambda data: np.stack([data, data])),
    "bytes": _image(lambda data: data.astype(np.uint8)),
    "doubles": _image(lambda data: data.astype(np.float64)),
    "no rows": _rows(lambda data: data[:0]),
    "rows twice": _rows(lambda data: np.concatenate([data, data])),
    "rows reversed": _rows(lambda data: data[::-1]),
    "one row": _rows(lambda data: data[:1]),
}


def of_parquet(content: bytes, rng: random.Random) -> Iterator[Mutation]:  # noqa: ARG001
    """Yield a table with other rows, and without or with nonsense in each of its columns."""
    table = pq.read_table(io.BytesIO(content))
    rows = {"no rows": table.slice(0, 0), "one row": table.slice(0, 1), "rows twice": pa.concat_tables([table, table])}
    rows["rows reversed"] = table.take(pa.array(range(table.num_rows - 1, -1, -1)))
    rows["no columns"] = table.select([])
    for name, changed in rows.items():
        yield Mutation(name, _parquet(changed))
    for number, field in enumerate(table.schema):
        new: dict[str, pa.Array] = {"removed": None}
        n = table.num_rows
        new["text"] = pa.array(["\u00e9"] * n)
        new["null"] = pa.nulls(n, field.type)
        if pa.types.is_floating(field.type):
            new |= {str(value): pa.array([value] * n, field.type) for value in (math.nan, math.inf, -1e30)}
        for what, column in new.items():
            kept = table.drop_columns([field.name])
            changed = kept if column is None else kept.add_column(number, field.name, column)
            yield Mutation(f"{field.name} {what}", _parquet(changed))


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def of_json(content: bytes, rng: random.Random) -> Iterator[Mutation]:
    """Yield a document with nonsense in place of each of its values, and one that is too deep."""
    document = json.loads(content)
    places = list(_places(document))
    pairs = [(place, value) for place in places for value in ("removed", *VALUES)]
    for place, value in rng.sample(pairs, min(len(pairs), 110)):
        changed = json.loads(content)
        at = changed
        for key in place[:-1]:
            at = at[key]
        if value == "removed":
            del at[place[-1]]
        else:
            at[place[-1]] = value
        yield Mutation(f"{'.'.join(map(str, place))} {value!r}", json.dumps(changed).encode())
    yield Mutation("deep", b"[" * DEPTH + b"]" * DEPTH)
    yield Mutation("deep within", content.rstrip()[:-1] + b',"deep":' + b"[" * DEPTH + b"]" * DEPTH + b"}")
    yield Mutation("Latin-1", content.rstrip()[:-1] + b',"name":"\xe9"}')
    for text in (b"null", b"[]", b"{}", b"1", b'"text"'):
        yield Mutation(text.decode(), text)


def _places(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*above, key))


def of_text(content: bytes, rng: random.Random) -> Iterator[Mutation]:
    """Yield a table of text with nonsense in its fields, and with other lines."""
    lines = content.decode().splitlines()
    separator = "," if "," in content.decode() else " "
    for words in ("NaN", "inf", "-1", "1e300", str(1 << 62), "text", "", "\u00e9", "1,5"):
        for _ in range(6):
            number = rng.randrange(min(len(lines), 40))
            fields = lines[number].split(separator)
            place = rng.randrange(len(fields))
            fields[place] = words
            changed = [*lines[:number], separator.join(fields), *lines[number + 1 :]]
            yield Mutation(f"line {number} field {place} {words}", _text(changed))
    for name, changed in {
        "first line only": lines[:1],
        "without first line": lines[1:],
        "twice": lines + lines,
        "reversed": lines[::-1],
        "stray line": [*lines, "stray line"],
        "stray number": [*lines, "7"],
        "fields removed": [line.rpartition(separator)[0] for line in lines],
        "long line": [*lines, "x" * 1_000_000],
    }.items():
        yield Mutation(name, _text(changed))


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


FORMS = {"fits": of_fits, "parquet": of_parquet, "json": of_json, "text": of_text, "bytes": None}
"""Damage that knows a format."""


def mutations(content: bytes, form: str, seed: int) -> list[Mutation]:
    """Return the damaged forms of a file: at least 60 where the format is known or its bytes are many."""
    rng = random.Random(seed)
    found = [replace(mutation, keeps_sums=True) for mutation in of_bytes(content, rng)]
    knowing = FORMS[form]
    if knowing is not None:
        found += knowing(content, rng)
    while len(found) < MINIMUM:
        found += [replace(mutation, keeps_sums=True) for mutation in of_bytes(content, rng)]
    return [mutation for mutation in found if mutation.content != content]


MINIMUM = 66
"""Fewest mutations of a kind; a few may leave the file as it is."""
