"""The option --settings: any settings of a flow or a search from a JSON file."""

from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter
from pydantic import ValidationError

from imaging.errors import InputError
from imaging.settings import Settings

Chosen = TypeVar("Chosen", bound=Settings)

SettingsFile = Annotated[
    Path | None, Parameter(name="--settings", help="JSON file with those settings that are not to be the defaults.")
]


def read_settings(path: Path | None, model: type[Chosen]) -> Chosen:
    """Read settings: those that the file names, and the defaults of the others.

    Parameters
    ----------
    path
        JSON file; None for the defaults.
    model
        What is set.

    Raises
    ------
    InputError
        If the file cannot be read, a name is unknown or a value refused.
    """
    if path is None:
        return model()
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError("settings file missing or unreadable", value=path) from error
    except ValidationError as error:
        raise refused(error, str(path)) from error


def refused(error: ValidationError, where: str) -> InputError:
    """Say which setting was refused, and why."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or where
    return InputError(f"there cannot be this {name}", value=first["input"], limit=first["msg"], remedy=f"see {where}")
