"""Read and write the colour terms of a calibration library (``colour_terms.json``)."""

from pathlib import Path

from pydantic import ValidationError

from imaging.errors import InputError
from imaging.io.atomic import write_text
from imaging.photometry.colours import ColourTerms

COLOUR_TERMS = "colour_terms.json"
"""File name in the calibration library."""


def write_colour_terms(path: Path, terms: ColourTerms) -> None:
    """Write colour terms.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    write_text(Path(path), terms.model_dump_json(indent=1) + "\n")


def read_colour_terms(path: Path) -> ColourTerms:
    """Read colour terms.

    Raises
    ------
    InputError
        If the file is missing or not valid.
    """
    try:
        return ColourTerms.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError("colour terms missing", value=path, remedy="copy the calibration library again") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "colour terms not valid",
            value=f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy="write the file again",
        ) from error
