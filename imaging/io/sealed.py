"""Files that state the hash of their own content, so that no changed byte is believed: JSON documents and tables.

A sealed JSON document ends in a line of 128 blanks and tabs, the zeros and ones of the 128-bit XXH3 hash of all bytes
before it. JSON allows white space there, so other programs read the document as it is. A sealed table
(:mod:`imaging.io.tables`) has the hash in its metadata, over the file with zeros in its place. Files without a seal, of
earlier versions or written anew by other programs, are read as they are.
"""

import mmap
import re
from pathlib import Path

import xxhash

from imaging.io.atomic import write_bytes

BITS = 128

SEAL = re.compile(rb"\n([ \t]{%d})\n$" % BITS)

MARK, DIGITS = b"xxh3:", 32
"""What precedes the hash in the metadata of a table, and its length."""

TAIL = BITS + 2
"""Bytes of the seal at the end of a document."""

MAX_BYTES = 1 << 28
"""Size of a JSON document; the largest, the evidence of a night, has some megabytes."""

EDITED = "if it was edited by hand, remove the white space at its end"


class SealError(ValueError):
    """The content of a file differs from the hash that it states."""


def seal(text: str) -> bytes:
    """Return the text of a JSON document with the hash of its content."""
    body = text.rstrip().encode()
    return body + b"\n" + _bits(body) + b"\n"


def _bits(body: bytes) -> bytes:
    return f"{xxhash.xxh3_128_intdigest(body):0{BITS}b}".translate({ord("0"): " ", ord("1"): "\t"}).encode()


def unseal(content: bytes) -> bytes:
    """Return a JSON document without its seal.

    Raises
    ------
    SealError
        If the content differs from its hash.
    UnicodeDecodeError
        If it is not UTF-8.
    """
    content.decode("utf-8")  # JSON in another encoding would be read too
    match = SEAL.search(content, max(len(content) - TAIL, 0))
    if match is None:
        return content
    body = content[: match.start()]
    if _bits(body) != match[1]:
        raise SealError(f"the content differs from the hash at its end; {EDITED}")
    return body + b"\n"


def write_sealed(path: Path, text: str, *, flush: bool = True) -> None:
    """Write a JSON object atomically with the hash of its content.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    write_bytes(path, seal(text), flush=flush)


def read_sealed(path: Path) -> bytes:
    """Read a JSON object and return it without its seal, if it has one.

    Raises
    ------
    OSError
        If the file cannot be read.
    SealError
        If the content differs from its hash, or is longer than a document can be.
    """
    with Path(path).open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SealError(f"the file is longer than {MAX_BYTES} bytes")
    return unseal(content)


def seal_in_place(path: Path) -> None:
    """Write the hash of a file's content over the zeros that follow the last :data:`MARK` in it."""
    with Path(path).open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        place = content.rfind(MARK + b"0" * DIGITS)
        if place >= 0:
            place += len(MARK)
            content[place : place + DIGITS] = xxhash.xxh3_128_hexdigest(memoryview(content)).encode()


def check_seal(path: Path) -> None:
    """Compare the content of a file with the hash that :func:`seal_in_place` wrote; nothing without one.

    Raises
    ------
    OSError
        If the file cannot be read.
    SealError
        If they differ.
    """
    with Path(path).open("rb") as stream:
        if not stream.read(1):
            raise SealError("the file is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.rfind(MARK)
            if place < 0:
                return
            place += len(MARK)
            digest = xxhash.xxh3_128()
            with memoryview(content) as view, view[:place] as head, view[place + DIGITS :] as rest:
                for part in (head, b"0" * DIGITS, rest):
                    digest.update(part)
            stated = content[place : place + DIGITS]
    if stated != digest.hexdigest().encode():
        raise SealError("the content differs from its hash")
