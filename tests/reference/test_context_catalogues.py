"""Galaxies, known transients, variables and active nuclei: rows in the layouts of their catalogues."""

import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.cosmology import Planck18
from astropy.table import Table
from astropy.time import Time

from imaging.errors import InputError
from imaging.io.source_tables import source_batches
from imaging.reference.context import convert
from imaging.reference.surveys import SURVEYS
from imaging.schemas.reference import DistanceMethod, KnownKind

NULLS = " ".join(["null"] * 5)


def gladeplus_row(number, name, kind, ra, dec, b, z, d_l, d_err, flag):
    """Make a row of GLADE+.txt: 40 columns between blanks."""
    return (
        f"{number} 2789 {name} {name} 00473313-2517196 null null {kind} {ra} {dec} {b} 0.3 0 -20.1 4.874 0.015 4.143 "
        f"0.015 3.822 0.016 3.5 0.02 3.4 0.02 0 null null {z} {z} 0 0.0002 0.0001 {d_l} {d_err} {flag} 4.1 0.4 1 "
        "-0.5 0.1"
    )


def read(path, survey):
    layout = SURVEYS[survey]
    batches = source_batches(path, layout.source_types(), layout.text)
    return pa.concat_tables([convert(batch, layout, path.name) for batch in batches]).to_pylist()


def test_gladeplus_text_of_40_columns(tmp_path):
    rows = [
        gladeplus_row(1, "NGC0253", "G", 11.88806, -25.288799, 7.34, 0.0008, 3.925951, 0.2, 2),
        gladeplus_row(2, "null", "G", 197.44877, -23.38389, 13.1, 0.0098, 42.9, 3.1, 3),
        gladeplus_row(3, "null", "G", 10.0, 2.5, "null", 0.12, 560.2, "null", 1),
        gladeplus_row(4, "null", "Q", 10.0, 3.5, 17.0, 1.2, 8000.0, 10.0, 3),  # a quasar is no host
        gladeplus_row(22750000000001, "null", "G", 11.0, 3.5, 17.0, "null", "null", "null", 0),  # without a distance
    ]
    assert {len(row.split()) for row in rows} == {40}
    path = tmp_path / "GLADE+.txt"
    path.write_text("\n".join(rows) + "\n")
    found = read(path, "gladeplus")
    assert [row["source_id"] for row in found] == [1, 2, 3]
    assert [row["distance_method"] for row in found] == [
        DistanceMethod.MEASURED, DistanceMethod.SPECTROSCOPIC, DistanceMethod.PHOTOMETRIC
    ]  # fmt: skip
    ngc4993 = found[1]
    assert (ngc4993["ra"], ngc4993["dec"]) == (197.44877, -23.38389)
    assert ngc4993["distance_mpc"] == pytest.approx(42.9)
    assert ngc4993["distance_error_mpc"] == pytest.approx(3.1)
    assert ngc4993["mag_b"] == pytest.approx(13.1)
    assert ngc4993["redshift"] == pytest.approx(0.0098)
    assert found[2]["mag_b"] is None
    packed = tmp_path / "GLADE+.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed, "gladeplus") == found


VIZIER = {
    "GLADE+": [1, 2], "Type": ["G", "Q"], "RAdeg": [197.44877, 10.0], "DEdeg": [-23.38389, 2.0], "BMAG": [-20.1, -25.0],
    "Bmag": [13.1, 17.0], "zhelio": [0.0098, 1.2], "dL": [42.9, 8000.0], "e_dL": [3.1, 10.0], "f_dL": [3, 3],
}  # fmt: skip


@pytest.mark.parametrize("form", ["vot", "parquet", "csv", "tsv", "txt"])
def test_vizier_of_gladeplus_gives_the_apparent_magnitude_in_every_form(tmp_path, form):
    path = tmp_path / f"glade.{form}"
    mark = {"csv": ";"}.get(form, "\t")
    lines = [mark.join(map(str, row)) for row in (VIZIER, *zip(*VIZIER.values(), strict=True))]
    if form == "vot":
        Table({name.replace("+", ""): values for name, values in VIZIER.items()}).write(path, format="votable")
    elif form == "parquet":
        pq.write_table(pa.table(VIZIER), path)
    else:  # VizieR's text has lines of units and of dashes below the names
        units = ["#VizieR", "#"], [mark.join(["deg"] * 10), mark.join(["-----"] * 10)]
        above, below = units if form == "txt" else ([], [])
        path.write_text("\n".join([*above, lines[0], *below, *lines[1:]]) + "\n")
    (row,) = read(path, "gladeplus")
    assert (row["ra"], row["dec"]) == (197.44877, -23.38389)
    assert row["mag_b"] == pytest.approx(13.1), "BMAG is the absolute magnitude"
    assert row["distance_mpc"] == pytest.approx(42.9)


@pytest.mark.parametrize(
    ("survey", "names", "known", "unknown", "lost"),
    [
        ("ztf", "ZTFID,RA,Dec,peakt,peakmag,type,redshift", "a,1:0:0,-1:30:0,228.7,17.4,SN,0.06", "b,15,-2,229,18,-,-",
         ["type", "redshift"]),
        ("atlas", "name,ra,dec,earliest_mjd,mag,type", "a,15,-1.5,60000,17.4,SN", "b,15,-2,None,None,None",
         ["mag", "mjd"]),
        ("milliquas", "NAME,RA,DEC,TYPE,RMAG,Z", "a,15,-1.5,Q,17.4,0.06", "b,15,-2,Q,0.0,", ["mag", "redshift"]),
        ("tns", "ID,Name,RA,DEC,Obj. Type,Redshift,Discovery Mag/Flux,Discovery Date (UT)",
         "1,a,01:00:00,-01:30:00,SN,0.06,17.4,2023-09-24 04:19:12.0", "2,b,01:00:00,-02:00:00,,,,2023-09-24 04:19:12.0",
         ["mag", "type", "redshift"]),
        ("galaxies", "name,ra,dec,distance_mpc,redshift,mag", "a,15,-1.5,40,0.06,17.4", "b,15,-2,1e20,0.1,-9999",
         ["mag_i"]),
    ],
)  # fmt: skip
def test_what_stands_for_an_unknown_value_is_unknown(tmp_path, survey, names, known, unknown, lost):
    path = tmp_path / "list.csv"
    path.write_text("\n".join([names, known, unknown]) + "\n")
    first, second = read(path, survey)
    assert (first["ra"], first["dec"], second["ra"], second["dec"]) == pytest.approx((15.0, -1.5, 15.0, -2.0))
    assert [second[name] for name in lost] == [None] * len(lost)
    assert first["mag_i" if survey == "galaxies" else "mag"] == pytest.approx(17.4)
    if survey != "atlas":
        assert first["redshift"] == pytest.approx(0.06)
    if survey == "galaxies":
        assert second["distance_mpc"] == pytest.approx(Planck18.luminosity_distance(0.1).value, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2789 NGC0253 NGC0253 00473313-2517196 null G 11.88806 -25.288799\n", "Expected 40 columns"),  # GLADE 2.3
        (gladeplus_row(1, "a", "G", 10.0, 95.0, 7, 0.1, 400, 1, 3) + "\n", "not on the sky"),
        (gladeplus_row(1, "a", "G", 10.0, 5.0, 7, 0.1, 400, 1, 7) + "\n", "unknown distance flags"),
    ],
)
def test_other_text_is_refused_as_gladeplus(tmp_path, text, message):
    path = tmp_path / "glade.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read(path, "gladeplus")


def test_nedlvs_fits(tmp_path):
    path = tmp_path / "NEDLVS.fits"
    Table(
        {
            "objname": ["NGC 4993", "Cepheid host", "WISEA J1", "quasar", "no distance"],
            "ra": [197.44877, 1.0, 2.0, 3.0, 4.0],
            "dec": [-23.38389, 1.0, 2.0, 3.0, 4.0],
            "objtype": ["G", "G", "G", "QSO", "G"],
            "z": [0.009783, 0.001, 0.15, 0.2, np.nan],
            "z_unc": [5e-5, 1e-5, 0.02, 1e-4, np.nan],
            "z_tech": ["SPEC", "SPEC", "PHOT", "SPEC", ""],
            "DistMpc": [43.1, 4.2, 720.0, 1000.0, np.nan],
            "DistMpc_unc": [3.0, 0.1, np.nan, 1.0, np.nan],
            "DistMpc_method": ["Redshift", "Cepheids", "Redshift", "Redshift", ""],
            "Mstar": [1e10] * 5,
            "m_J": [10.3] * 5,
        }
    ).write(path)
    found = read(path, "nedlvs")
    assert [row["distance_method"] for row in found] == [
        DistanceMethod.SPECTROSCOPIC, DistanceMethod.MEASURED, DistanceMethod.PHOTOMETRIC
    ]  # fmt: skip
    assert [row["distance_mpc"] for row in found] == pytest.approx([43.1, 4.2, 720.0])
    assert [row["distance_error_mpc"] for row in found[:2]] == pytest.approx([3.0, 0.1])
    assert len({row["source_id"] for row in found}) == 3


def legacy(**changes):
    columns = {
        "RELEASE": np.full(4, 10000, np.int16),
        "BRICKID": np.full(4, 330123, np.int32),
        "OBJID": np.arange(4, dtype=np.int32),
        "RA": np.full(4, 150.0) + np.arange(4) * 0.01,
        "DEC": np.full(4, 2.0),
        "TYPE": np.array(["SER", "EXP", "PSF", "DEV"]),
        "FLUX_I": np.array([100.0, 10.0, 10.0, 10.0], np.float32),
        "FLUX_Z": np.array([120.0, 12.0, 12.0, 12.0], np.float32),
        "SHAPE_R": np.array([2.5, 0.7, 0.0, 1.0], np.float32),
        "Z_PHOT_MEDIAN": np.array([0.10, 0.30, 0.5, -99.0], np.float32),
        "Z_PHOT_STD": np.array([0.01, 0.05, 0.1, -99.0], np.float32),
        "Z_SPEC": np.array([0.0952, -99.0, -99.0, -99.0], np.float32),
    }
    return Table(columns | changes)


def test_legacy_surveys_photometric_redshifts(tmp_path):
    path = tmp_path / "sweep.fits"
    legacy().write(path)
    first, second = read(path, "ls_dr10_photoz")
    # the identifier is that of the survey: release, brick, number (desitarget)
    assert second["source_id"] == (10000 << 42) + (330123 << 22) + 1
    assert (first["distance_method"], second["distance_method"]) == (2, 1)
    assert first["distance_mpc"] == pytest.approx(Planck18.luminosity_distance(0.0952).value, rel=1e-4)
    near, far = (Planck18.luminosity_distance(z).value for z in (0.25, 0.35))
    assert second["distance_error_mpc"] == pytest.approx((far - near) / 2, rel=1e-3)
    slope = Planck18.luminosity_distance(0.0962).value - Planck18.luminosity_distance(0.0942).value
    assert first["distance_error_mpc"] == pytest.approx(slope / 2, rel=0.1)  # 300 km/s
    assert (first["mag_i"], second["half_light_radius_arcsec"]) == pytest.approx((17.5, 0.7))


def test_the_file_of_photometric_redshifts_alone_is_refused(tmp_path):
    path = tmp_path / "sweep-pz.fits"
    table = legacy()
    table.keep_columns(["RELEASE", "BRICKID", "OBJID", "Z_PHOT_MEDIAN", "Z_PHOT_STD", "Z_SPEC"])
    table.write(path)
    with pytest.raises(InputError, match="not a table of ls_dr10_photoz: no column for ra"):
        read(path, "ls_dr10_photoz")


TNS = """"2026-07-26 00:00:00 - 23:59:59"
"objid","name_prefix","name","ra","declination","redshift","typeid","type","reporting_groupid","reporting_group",\
"source_groupid","source_group","discoverydate","discoverymag","discmagfilter","filter","reporters","time_received",\
"internal_names","Discovery_ADS_bibcode","Class_ADS_bibcodes","creationdate","lastmodified"
"1001","AT","2017gfo","197.450374","-23.381481","0.009783","70","Kilonova","1","DLT40","1","DLT40",\
"2017-08-17 23:33:27.000","17.476","24","i","A, B","2017-08-18 01:05:23","SSS17a, DLT17ck","","",\
"2017-08-18 01:05:23","2017-08-18 01:05:23"
"1002","SN","2026xyz","10.5","-45.25","0.031","3","SN Ia","1","ATLAS","1","ATLAS","2026-06-15 22:10:00","18.1","72",\
"o","C","","ATLAS26x","","","",""
"1003","AT","2026agn","11.5","-45.25","","","AGN","1","ZTF","1","ZTF","2026-06-15 22:10:00",\
"","","","","","","","","",""
"""


def test_the_list_of_the_tns(tmp_path):
    """As the server sends it, in a ZIP archive, and unpacked."""
    path = tmp_path / "tns_public_objects.csv"
    path.write_text(TNS)
    packed = tmp_path / "tns_public_objects.csv.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    kilonova, supernova, nucleus = read(packed, "tns")
    assert read(path, "tns") == [kilonova, supernova, nucleus]
    assert (kilonova["source_id"], kilonova["name"], kilonova["type"]) == (1001, "AT 2017gfo", "Kilonova")
    assert (kilonova["ra"], kilonova["dec"]) == (197.450374, -23.381481)
    assert kilonova["mjd"] == pytest.approx(Time("2017-08-17T23:33:27").mjd, abs=1e-7)
    assert (supernova["kind"], nucleus["kind"]) == (KnownKind.TRANSIENT, KnownKind.NUCLEUS)
    assert supernova["redshift"] == pytest.approx(0.031)
    assert nucleus["mag"] is None


def test_damaged_archives_and_those_of_several_files_are_refused(tmp_path):
    packed = tmp_path / "tns_public_objects.csv.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", TNS)
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"damaged.*tns_public_objects\.csv\.zip"):
        read(packed, "tns")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", TNS)
        archive.writestr("b.csv", TNS)
    with pytest.raises(InputError, match=r"archive of several files.*a\.csv, b\.csv"):
        read(packed, "tns")


def test_a_transient_without_name_or_date_is_known_by_its_place(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,ra,dec,earliest_mjd\n,15,-1.5,60000\n")
    (row,) = read(path, "atlas")
    assert (row["name"], row["ra"]) == ("atlas", 15.0)
    path.write_text(TNS.replace("2026-06-15 22:10:00", "0000-00-00 00:00:00"))
    assert [row["mjd"] is None for row in read(path, "tns")] == [False, True, True]


def test_lists_of_ztf_and_atlas(tmp_path):
    bts = tmp_path / "bts.csv"
    bts.write_text(
        "ZTFID,IAUID,RA,Dec,peakt,peakfilt,peakmag,peakabs,duration,rise,fade,type,redshift,b,A_V\n"
        "ZTF18aabtxvd,SN2018bcc,16:14:22.65,-35:55:04.4,228.73,g,17.46,-20.1,>12,5,8,SN Ibn,0.0636,40.1,0.04\n"
    )
    (row,) = read(bts, "ztf")
    assert (row["ra"], row["dec"]) == pytest.approx((243.594375, -35.9178889), abs=1e-7)
    assert (row["name"], row["type"]) == ("ZTF18aabtxvd", "SN Ibn")
    assert row["mjd"] == pytest.approx(58228.23)
    alerce = tmp_path / "alerce.csv"
    alerce.write_text("oid,meanra,meandec,firstmjd,ndet,class\nZTF20aaaaaaa,10.25,-5.5,60000.25,7,SNIa\n")
    (row,) = read(alerce, "ztf")
    assert (row["ra"], row["dec"], row["mjd"]) == (10.25, -5.5, 60000.25)
    atlas = tmp_path / "atlas.csv"
    atlas.write_text("id,atlas_designation,ra,dec,earliest_mjd\n1161422651355504400,ATLAS26abc,10.25,-5.5,61200.5\n")
    (row,) = read(atlas, "atlas")
    assert (row["name"], row["mjd"], row["kind"]) == ("ATLAS26abc", 61200.5, KnownKind.TRANSIENT)


def vsx_line(oid, name, v, ra, dec, kind):
    """Make a line of vsx.dat (CDS B/vsx): bytes 1-8, 9-38, 40, 42-50, 52-60, 62-91."""
    return f"{oid:8d}{name:30s} {v:1d} {ra:9.5f} {dec:9.5f} {kind:30s}   12.300 V         14.100 V  \n"


def test_vsx_of_fixed_width(tmp_path):
    path = tmp_path / "vsx.dat"
    lines = [
        vsx_line(26873, "V0393 CrA", 0, 270.12345, -40.54321, "RRAB"),
        vsx_line(12345678, "NSV 1", 1, 0.00012, -0.00001, "LB:"),
        vsx_line(3, "constant", 2, 10.0, 1.0, "CST"),
        vsx_line(4, "3C 273", 0, 187.27792, 2.05239, "QSO"),
    ]
    path.write_text("".join(lines))
    star, suspected, quasar = read(path, "vsx")
    assert (star["source_id"], star["name"], star["type"], star["ra"]) == (26873, "V0393 CrA", "RRAB", 270.12345)
    assert suspected["source_id"] == 12345678
    assert (star["kind"], quasar["kind"]) == (KnownKind.VARIABLE, KnownKind.NUCLEUS)
    path.write_text("short\n")
    with pytest.raises(InputError, match="fewer than the layout"):
        read(path, "vsx")
    path.write_text(lines[0].replace("270.12345", "270x12345"))
    with pytest.raises(InputError, match="vsx"):
        read(path, "vsx")


def test_gaia_variables_keep_all_digits(tmp_path):
    path = tmp_path / "variables.parquet"
    number = 4657193606465368705
    pq.write_table(
        pa.table(
            {
                "source_id": [number, number + 1, number + 2],
                "ra": [1.0, 2.0, 3.0],
                "dec": [-1.0, -2.0, -3.0],
                "best_class_name": ["RR", "AGN", "GALAXY"],
            }
        ),
        path,
    )
    star, nucleus = read(path, "gaia_variables")
    assert (star["source_id"], star["name"], star["kind"]) == (number, f"gaia_variables {number}", KnownKind.VARIABLE)
    assert nucleus["kind"] == KnownKind.NUCLEUS


def test_milliquas_fits(tmp_path):
    path = tmp_path / "milliquas.fits"
    Table(
        {
            "RA": [187.2779158], "DEC": [2.0523889], "NAME": ["3C 273"], "TYPE": ["QRX"], "RMAG": [12.8],
            "BMAG": [13.1], "Z": [0.158],
        }
    ).write(path)  # fmt: skip
    (row,) = read(path, "milliquas")
    assert (row["name"], row["type"], row["kind"]) == ("3C 273", "QRX", KnownKind.NUCLEUS)
    assert row["redshift"] == pytest.approx(0.158)


def test_milliquas_text_of_fixed_width(tmp_path):
    def line(ra, dec, name, kind, rmag, redshift):
        head = f"{ra:11.7f} {dec:11.7f}  {name:25s} {kind:4s} {rmag:5.2f} {13.1:5.2f} p   -  -"
        return f"{head:76s}{redshift:6s} {'DR16Q':6s} {'DR16Q':6s}{' ' * 92}\n"

    path = tmp_path / "milliquas.txt"
    path.write_text(
        line(187.2779158, 2.0523889, "3C 273", "QRX", 12.8, "0.158") + line(0.0006, -50.4, "X", "A", 0.0, "")
    )
    known, unknown = read(path, "milliquas")
    assert (known["ra"], known["dec"], known["name"], known["type"]) == (187.2779158, 2.0523889, "3C 273", "QRX")
    assert (known["mag"], known["redshift"]) == pytest.approx((12.8, 0.158))
    assert (unknown["dec"], unknown["mag"], unknown["redshift"]) == (-50.4, None, None)


@pytest.mark.parametrize("name", SURVEYS)
def test_a_table_of_something_else_is_refused_by_name(tmp_path, name):
    path = tmp_path / "other.csv"
    path.write_text("x,name,type,dec\n1,a,b,2\n")
    with pytest.raises(InputError, match=f"not a table of {name}|other.csv"):
        read(path, name)


def test_galaxies_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("name,ra,dec,distance_mpc,distance_error_mpc,mag\nA,1.5,-2,40,,13\nB,2.5,-2,,,13\n")
    (row,) = read(path, "galaxies")
    assert (row["ra"], row["distance_mpc"], row["distance_error_mpc"], row["mag_i"]) == (1.5, 40.0, None, 13.0)
    path.write_text("ra,dec\n1,2\n")
    with pytest.raises(InputError, match="no column for distance or redshift"):
        read(path, "galaxies")
