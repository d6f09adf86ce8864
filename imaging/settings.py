"""What every stage's settings have in common.

Each stage keeps its own model beside its science (``imaging/STAGE/settings.py``). The models are flow parameters, so
the Prefect UI shows them as a form, and their digest is part of the cache key of the step that they steer.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import xxhash
from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen set of settings; unknown names are refused, because a misspelt setting is a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    OLD_NAMES: ClassVar[Mapping[str, str]] = {}
    """Names of version 0.1 that are still read, with their new ones."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, values: Any) -> Any:  # noqa: ANN401
        if isinstance(values, dict):
            return {cls.OLD_NAMES.get(name, name): value for name, value in values.items()}
        return values

    def digest(self) -> str:
        """Return a hash of all values that is the same on every machine."""
        return xxhash.xxh3_128_hexdigest(self.model_dump_json().encode())

    def with_values(self, **changes: Any) -> Self:  # noqa: ANN401
        """Return a copy with some values changed, validated."""
        return type(self).model_validate(self.model_dump() | changes)
