"""Options that several commands share, and the JSON files of ``--settings``."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from cyclopts import Parameter, validators
from pydantic import ValidationError

from blocks.sharing import follow, require_site
from blocks.site import DEFAULT_ROOT, Site
from imaging.detector.ccds import parse_ccd_list
from imaging.errors import InputError
from imaging.identity import check_night
from imaging.settings import Settings


@Parameter(name="*")
@dataclass(frozen=True)
class Display:
    """Output of a command.

    Attributes
    ----------
    json
        Write one JSON document to standard output.
    verbose
        Prefect's log on standard error: 0 none, 1 messages (also without a number), 2 details.
    """

    json: Annotated[bool, Parameter(name="--json", negative="")] = False
    verbose: Annotated[int, Parameter(name="--verbose", validator=validators.Number(gte=0, lte=2))] = 0


@Parameter(name="*")
@dataclass(frozen=True)
class Common(Display):
    """Options of every command that works on a site.

    Attributes
    ----------
    site
        Folder of the site, or name of a saved block Storage Roots.
    """

    site: Annotated[str, Parameter(name=["--site", "--root"], env_var="GW_WORKFLOW_ROOT")] = "default"


DEFAULT_DISPLAY = Display()
"""Defaults of a command without a site."""

DEFAULTS = Common()
"""Defaults of a command that works on a site."""

AT_LEAST_ONE = validators.Number(gte=1)
"""Validator of counts."""

A_PORT = validators.Number(gte=0, lte=65535)
"""Validator of ports; 0 is any free one."""

ABOVE_ZERO = validators.Number(gt=0)
"""Validator of times."""


def is_a_night(_: object, night: int | None) -> None:
    """Refuse an option that is not a night.

    Raises
    ------
    InputError
        If a night is not a date.
    """
    if night is not None:
        check_night(night)


ExpNum = Annotated[
    int, Parameter(name=["--expnum", "-E"], validator=AT_LEAST_ONE, help="Exposure number, of any length.")
]
Band = Annotated[str, Parameter(name=["--band", "-b"], help="Band: u, g, r, i, z, Y or VR.")]
Night = Annotated[int, Parameter(name=["--night", "-n"], validator=is_a_night, help="Night, YYYYMMDD.")]
NightNumber = Annotated[
    int, Parameter(validator=is_a_night, help="Local date at the beginning of the night, YYYYMMDD.")
]
Rnum = Annotated[str, Parameter(name=["--rnum", "-r"], help="Request number, the first half of the version tag.")]
Pnum = Annotated[str, Parameter(name=["--pnum", "-p"], help="Processing number, the second half.")]
Season = Annotated[str, Parameter(name=["--season", "-S"], help="Season of the difference products: 60 or dp60.")]
Ccds = Annotated[str | None, Parameter(name=["--ccds", "-c"], help="CCDs such as 1,3-5,25; default: all.")]
Destination = Annotated[
    Literal["persistent", "scratch"],
    Parameter(name=["--destination", "-d"], help="Where products are written: kept, or removed after some days."),
]
Schema = Annotated[Literal["gw", "wsdiff"], Parameter(name=["--schema", "-m"], help="Name of the output tree.")]
Workers = Annotated[
    int | None,
    Parameter(
        name="--workers",
        validator=AT_LEAST_ONE,
        help="Worker processes; default: the site's cluster, or one per core.",
    ),
]
Overwrite = Annotated[bool, Parameter(name=["--overwrite", "-O"], negative="", help="Recompute cached steps.")]


@dataclass(frozen=True, slots=True)
class FoundSite:
    """A site and its name as a parameter of a flow.

    Attributes
    ----------
    site
        Folders of the site.
    name
        Name of its saved block, or its folder.
    """

    site: Site
    name: str


def find_site(common: Common) -> FoundSite:
    """Return the site that the options name, which this user may read.

    Raises
    ------
    InputError
        If it belongs to somebody else, or its name is no text.
    """
    found = _named_site(common.site)
    try:
        str(found.site.root).encode()
    except UnicodeEncodeError as error:
        remedy = "set LC_ALL=C.UTF-8, or rename the folder"
        raise InputError(
            "the name of the site is not UTF-8", value=ascii(str(found.site.root)), remedy=remedy
        ) from error
    follow(found.site)
    require_site(found.site, "state", "records", "nights", "products")
    return found


def _named_site(name: str) -> FoundSite:
    # Prefect is imported only where a server may store the site as a block.
    if os.environ.get("PREFECT_API_URL") and os.sep not in name:
        from blocks.folders import StorageRoots
        from blocks.saved import saved_block

        block = saved_block(StorageRoots, name)
        if block is not None:
            return FoundSite(block.site(), name)
    site = Site.at(DEFAULT_ROOT if name == "default" else name)
    return FoundSite(site, str(site.root))


def ccds_of(text: str | None) -> tuple[int, ...] | None:
    """Parse a list of CCDs; None for all.

    Raises
    ------
    InputError
        If the list is invalid.
    """
    return None if text is None else parse_ccd_list(text)


def version_number(text: str, letter: str) -> int:
    """Parse a request or processing number such as ``4`` or ``r4``.

    Raises
    ------
    InputError
        If the number is invalid.
    """
    digits = text.removeprefix(letter)
    if not (digits.isascii() and digits.isdigit()):
        raise InputError("invalid version number", value=repr(text), limit=f"a number, or {letter} and a number")
    return int(digits)


Chosen = TypeVar("Chosen", bound=Settings)

SettingsFile = Annotated[
    Path | None, Parameter(name="--settings", help="JSON file with settings that differ from the defaults.")
]


def read_settings(path: Path | None, model: type[Chosen]) -> Chosen:
    """Read settings from a file; settings that it does not name have their defaults.

    Parameters
    ----------
    path
        JSON file; None for the defaults.
    model
        Model of the settings.

    Raises
    ------
    InputError
        If the file cannot be read, or a setting is unknown or invalid.
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
    """Return the error that names the invalid setting and the reason."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or where
    return InputError(f"invalid setting {name}", value=first["input"], limit=first["msg"], remedy=f"see {where}")
