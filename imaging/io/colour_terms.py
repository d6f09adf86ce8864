"""Read and write the colour terms of a calibration library (``colour_terms.json``)."""

from pathlib import Path

import numpy as np

from imaging.bands import band_named
from imaging.io.atomic import write_text
from imaging.io.damage import reading
from imaging.io.possible import require_possible
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
        If the file is missing, not valid, or names a band that the camera does not have.
    """
    with reading(path, "colour terms not valid", "copy the calibration library again", missing="colour terms missing"):
        terms = ColourTerms.model_validate_json(Path(path).read_bytes())
        for band, term in terms.bands.items():
            band_named(band)
            require_possible(np.array([*term.coefficients, term.colour_min, term.colour_max]), "colour_terms")
        return terms
