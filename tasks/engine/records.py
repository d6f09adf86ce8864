"""The storage of step records for Prefect: it hands out only what :func:`tasks.engine.cache.parse_record` accepts.

Prefect reads a record with the serializer that the record names, which may be pickle, and imports the classes that it
names. Whoever can write below ``state/records`` could so run code in the next command. This storage reads a record by
the project's schema and returns it encoded anew; for anything else it raises, which to Prefect is a record that does
not exist, so that the step is computed.
"""

from typing import cast

from prefect.filesystems import LocalFileSystem
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import JSONSerializer

from imaging.io.sealed import seal
from tasks.engine.cache import parse_record
from tasks.engine.jobs import StepResult


class StepRecords(LocalFileSystem):
    """Folder of step records."""

    _block_type_slug = "gw-step-records"

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Write a record, as :meth:`write_path` does."""
        return await super().awrite_path(path, seal(content.decode()))

    def write_path(self, path: str, content: bytes, **how: bool) -> str:  # type: ignore[override]  # as read_path
        """Write a record with the hash of its content; parameters as in :meth:`read_path`."""
        return cast("str", super().write_path(path, seal(content.decode()), **how))

    async def aread_path(self, path: str) -> bytes:
        """Read a record, as :meth:`read_path` does."""
        return _own(path, await super().aread_path(path))

    def read_path(self, path: str, **how: bool) -> bytes:  # type: ignore[override]  # sync and async there
        """Read a record by the project's schema.

        Parameters
        ----------
        path
            Name of the record.
        how
            Option of Prefect's call, without effect.

        Raises
        ------
        ValueError
            If there is none, or it is not of the schema.
        """
        return _own(path, cast("bytes", super().read_path(path, **how)))


def _own(path: str, content: bytes) -> bytes:
    """Return a record encoded anew."""
    result = parse_record(content)
    if result is None:
        raise ValueError(f"not a step record: {path}")
    return _encoded(result, path)


def record_bytes(result: StepResult, key: str) -> bytes:
    """Return a result as the bytes of its record, with the hash of its content."""
    return seal(_encoded(result, key).decode())


def _encoded(result: StepResult, key: str) -> bytes:
    metadata = ResultRecordMetadata(serializer=JSONSerializer(), storage_key=key)
    return ResultRecord[StepResult](result=result, metadata=metadata).serialize()
