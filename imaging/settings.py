"""Base class of all settings: frozen, validated, with a digest for cache keys.

Each stage defines its settings in ``imaging/STAGE/settings.py``. The models are flow parameters, so the Prefect UI
shows them as a form, and their digest is part of the cache key of the steps that use them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import xxhash
from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen set of settings; unknown names are rejected, so that a misspelt setting is not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    OLD_NAMES: ClassVar[Mapping[str, str]] = {}
    """Names of version 0.1 that are still accepted, with their new names."""

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
