"""Layouts of the catalogues of context: galaxies with distances, known transients, variables and active nuclei.

A layout names, for each quantity, the columns of the source that may hold it; the first one present is used. Text
without a line of names has a layout of columns or of bytes. A table that lacks a required quantity is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pyarrow as pa

from imaging.errors import InputError
from imaging.schemas.reference import KNOWN_SOURCES, REFERENCE_GALAXIES, KnownKind

Names = tuple[str, ...]

TEXTS = ("name", "prefix", "type", "date", "method", "technique")
"""Quantities that are text; the identifier is a 64-bit integer, everything else a number."""


@dataclass(frozen=True)
class TextLayout:
    """Layout of text without a line of column names.

    Attributes
    ----------
    names
        Names of the columns, separated by blanks, in order.
    bytes_of
        Name to (first, last) byte of a fixed-width column, counted from 1 as in the CDS descriptions; used instead of
        ``names``.
    """

    names: Names = ()
    bytes_of: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """Layout of a catalogue of context.

    Attributes
    ----------
    name
        Name of the catalogue, and of its folder.
    schema
        Columns of the result.
    columns
        Quantity to the names of the columns that may hold it, lower case, the preferred one first.
    reference
        Source of the catalogue.
    required
        Quantities without which a table is refused; of alternatives in a tuple one is enough.
    kind
        What its sources are, unless their type says otherwise.
    sexagesimal
        Whether positions may be text in hours and degrees.
    text
        Layout of its text without names.
    """

    name: str
    schema: pa.Schema
    columns: Mapping[str, Names]
    reference: str
    required: tuple[str | Names, ...] = ("ra", "dec")
    kind: KnownKind | None = None
    sexagesimal: bool = False
    text: TextLayout | None = None

    def source_types(self) -> dict[str, pa.DataType]:
        """Return the columns to read, lower case, and their Arrow types."""
        texts = (*TEXTS, *(("ra", "dec") if self.sexagesimal else ()))
        kinds = {quantity: pa.string() if quantity in texts else pa.float64() for quantity in self.columns}
        kinds |= {"id": pa.int64()}
        return {name: kinds[quantity] for quantity, names in self.columns.items() for name in names}

    def chosen(self, source: pa.Table, where: str) -> dict[str, str]:
        """Return quantity to the column that holds it in a table.

        Raises
        ------
        InputError
            If a required quantity is missing.
        """
        present = set(source.column_names)
        found = {
            quantity: next(name for name in names if name in present)
            for quantity, names in self.columns.items()
            if present & set(names)
        }
        for wanted in self.required:
            alternatives = (wanted,) if isinstance(wanted, str) else wanted
            if not found.keys() & set(alternatives):
                names = [name for quantity in alternatives for name in self.columns[quantity]]
                raise InputError(
                    f"not a table of {self.name}: no column for {' or '.join(alternatives)}",
                    value=where,
                    limit=f"one of {', '.join(names)}",
                    remedy="give the catalogue's own table, or one with these columns",
                )
        return found


GLADEPLUS_COLUMNS = (
    "glade pgc gwgc hyperleda twomass wisexscos sdss otype ra dec b b_err b_flag b_abs j j_err h h_err k k_err w1 "
    "w1_err w2 w2_err w1_flag bj bj_err z_helio z_cmb z_flag v_err z_err d_l d_l_err dist_flag mass mass_err "
    "mass_flag rate rate_err"
)
"""The 40 columns of GLADE+.txt (Dalya et al. 2022, MNRAS 514, 1403, appendix)."""

VSX_BYTES = {"oid": (1, 8), "name": (9, 38), "v": (40, 40), "raj2000": (42, 50), "dej2000": (52, 60), "type": (62, 91)}
"""Columns of vsx.dat (CDS B/vsx)."""

MILLIQUAS_BYTES = {"ra": (1, 11), "dec": (13, 23), "name": (26, 50), "type": (52, 55), "rmag": (57, 61), "z": (77, 82)}
"""Columns of milliquas.txt, versions 4 to 8 (its ReadMe)."""

_GALAXIES = (
    Survey(
        "galaxies",
        REFERENCE_GALAXIES,
        {
            "id": ("source_id", "id"),
            "name": ("name", "objname"),
            "ra": ("ra",),
            "dec": ("dec",),
            "redshift": ("redshift", "z"),
            "redshift_error": ("redshift_error", "z_error"),
            "distance": ("distance_mpc",),
            "distance_error": ("distance_error_mpc",),
            "mag_b": ("mag_b",),
            "mag_i": ("mag_i", "mag"),
            "radius": ("half_light_radius_arcsec",),
            "distance_flag": ("distance_method",),
        },
        "a table of one's own",
        ("ra", "dec", ("distance", "redshift")),
    ),
    Survey(
        "nedlvs",
        REFERENCE_GALAXIES,
        {
            "name": ("objname",),
            "ra": ("ra",),
            "dec": ("dec",),
            "redshift": ("z",),
            "redshift_error": ("z_unc",),
            "distance": ("distmpc",),
            "distance_error": ("distmpc_unc",),
            "method": ("distmpc_method",),
            "technique": ("z_tech",),
            "type": ("objtype",),
        },
        "NED Local Volume Sample (Cook et al. 2023, ApJS 268, 14)",
        ("name", "ra", "dec", "distance", "technique"),
    ),
    Survey(
        "gladeplus",
        REFERENCE_GALAXIES,
        {
            "id": ("glade", "glade+"),
            "ra": ("ra", "raj2000", "radeg"),
            "dec": ("dec", "dej2000", "dedeg"),
            "type": ("otype", "type"),
            "mag_b": ("b", "bmag"),
            "redshift": ("z_helio", "zhelio"),
            "redshift_error": ("z_err", "e_zhelio"),
            "distance": ("d_l", "dl"),
            "distance_error": ("d_l_err", "e_dl"),
            "distance_flag": ("dist_flag", "f_dl"),
        },
        "GLADE+ (Dalya et al. 2022, MNRAS 514, 1403)",
        ("id", "ra", "dec", "distance", "distance_flag"),
        text=TextLayout(names=tuple(GLADEPLUS_COLUMNS.split())),
    ),
    Survey(
        "ls_dr10_photoz",
        REFERENCE_GALAXIES,
        {
            "id": ("ls_id",),
            "release": ("release",),
            "brick": ("brickid",),
            "object": ("objid", "brick_objid"),
            "ra": ("ra",),
            "dec": ("dec",),
            "type": ("type",),
            "flux_i": ("flux_i",),
            "flux_z": ("flux_z",),
            "radius": ("shape_r",),
            "redshift": ("z_phot_median", "z_phot_median_i"),
            "redshift_error": ("z_phot_std", "z_phot_std_i"),
            "spectroscopic": ("z_spec",),
        },
        "Legacy Surveys DR10, photometric redshifts (Zhou et al. 2023, JCAP 11, 097)",
        (("id", "object"), "ra", "dec", "type", "redshift", "redshift_error"),
    ),
)

_KNOWN = (
    Survey(
        "tns",
        KNOWN_SOURCES,
        {
            "id": ("objid", "id"),
            "prefix": ("name_prefix",),
            "name": ("name",),
            "ra": ("ra",),
            "dec": ("declination", "dec"),
            "type": ("type", "obj. type"),
            "redshift": ("redshift",),
            "date": ("discoverydate", "discovery date (ut)"),
            "mag": ("discoverymag", "discovery mag/flux"),
        },
        "Transient Name Server, tns_public_objects.csv or the table of a search",
        ("id", "name", "ra", "dec", "date"),
        KnownKind.TRANSIENT,
        sexagesimal=True,
    ),
    Survey(
        "ztf",
        KNOWN_SOURCES,
        {
            "name": ("ztfid", "oid", "objectid"),
            "ra": ("ra", "meanra", "ramean"),
            "dec": ("dec", "meandec", "decmean"),
            "type": ("type", "class", "classification"),
            "redshift": ("redshift",),
            "mjd": ("firstmjd", "jdmin", "peakt"),
            "mag": ("peakmag", "magpsf"),
        },
        "Zwicky Transient Facility: lists of the Bright Transient Survey, ALeRCE or Lasair",
        ("name", "ra", "dec"),
        KnownKind.TRANSIENT,
        sexagesimal=True,
    ),
    Survey(
        "atlas",
        KNOWN_SOURCES,
        {
            "name": ("atlas_designation", "name"),
            "ra": ("ra",),
            "dec": ("dec",),
            "type": ("type", "object_classification", "sherlockclassification"),
            "mjd": ("earliest_mjd", "discovery_mjd", "mjd"),
            "mag": ("earliest_mag", "mag"),
        },
        "ATLAS transient server, a list of objects",
        ("name", "ra", "dec"),
        KnownKind.TRANSIENT,
        sexagesimal=True,
    ),
    Survey(
        "vsx",
        KNOWN_SOURCES,
        {
            "id": ("oid",),
            "name": ("name",),
            "ra": ("raj2000", "radeg"),
            "dec": ("dej2000", "dedeg"),
            "type": ("type",),
            "variability": ("v",),
        },
        "AAVSO International Variable Star Index (CDS B/vsx)",
        ("id", "name", "ra", "dec", "type", "variability"),
        KnownKind.VARIABLE,
        text=TextLayout(bytes_of=VSX_BYTES),
    ),
    Survey(
        "gaia_variables",
        KNOWN_SOURCES,
        {
            "id": ("source_id", "source"),
            "ra": ("ra", "ra_icrs"),
            "dec": ("dec", "de_icrs"),
            "type": ("best_class_name", "class"),
        },
        "Gaia DR3 vari_classifier_result with positions (Rimoldini et al. 2023, A&A 674, A14)",
        ("id", "ra", "dec", "type"),
        KnownKind.VARIABLE,
    ),
    Survey(
        "milliquas",
        KNOWN_SOURCES,
        {
            "name": ("name",),
            "ra": ("ra", "radeg", "raj2000"),
            "dec": ("dec", "dedeg", "dej2000"),
            "type": ("type",),
            "redshift": ("z",),
            "mag": ("rmag",),
        },
        "Million Quasars Catalogue (Flesch 2023, OJAp 6, 49)",
        ("name", "ra", "dec", "type"),
        KnownKind.NUCLEUS,
        text=TextLayout(bytes_of=MILLIQUAS_BYTES),
    ),
)

SURVEYS: Mapping[str, Survey] = MappingProxyType({survey.name: survey for survey in (*_GALAXIES, *_KNOWN)})
"""Name of each catalogue of context to its layout."""

GALAXY_CATALOGUES = tuple(survey.name for survey in _GALAXIES)
KNOWN_CATALOGUES = tuple(survey.name for survey in _KNOWN)
ORBIT_CATALOGUE = "mpcorb"
"""Catalogues that a night looks for in a site."""
