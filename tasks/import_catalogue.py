"""Build a reference catalogue: source files into pieces by position, pieces into partitions.

A piece holds stars of one source file; partitions are assembled when all files have been read. Pieces are kept below
the site's state folder until the catalogue is finished.

``hats-import`` 0.11.1 was measured on 2 million rows in four CSV files, at the same order and through the same reader:
the same 322 partitions, columns and values, but it keeps sources that two files hold, sorts along the sky only with a
column of its own added, and takes 69 CPU s against 15 s here (peak memory added 266 MiB against 391 MiB).
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import xxhash

from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import write_text
from imaging.io.reference import finish_catalogue, partition_path, read_pieces, write_partition, write_pieces
from imaging.io.source_tables import FORMATS, format_of, source_batches
from imaging.reference.context import convert
from imaging.reference.gaia import reference_stars, source_types
from imaging.reference.mapping import CatalogueMapping, calibrated_stars
from imaging.reference.partition import merge_pieces
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.reference.surveys import SURVEYS
from imaging.schemas.reference import CALIBRATED_STARS, REFERENCE_STARS
from imaging.timing import StepTimes
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.steps import ASSEMBLE, IMPORT_SOURCE

PIXELS_PER_JOB = 64
"""Maximum number of partitions per task."""

STARS_PER_JOB = 2_000_000
"""Maximum number of stars per task, unless a single partition holds more."""

STARS_PER_PIECE = 1_000_000
"""Number of stars held in memory before they are written to a piece."""

SAMPLE_BYTES = 1 << 20
"""Bytes at the beginning and at the end of a source file that are hashed to detect changes."""

BUILD = "build.json"
"""File in the catalogue's folder that records sources and settings."""


def find_sources(places: Iterable[str]) -> list[Path]:
    """Return the source files given by files, folders and glob patterns, in order of their names.

    In folders, files with a leading underscore are skipped: the archive names its licence and checksums so. Of a folder
    in the HATS layout the partitions are taken, and none of its indices and thumbnails.

    Raises
    ------
    InputError
        If there are none, or one is of an unknown format.
    """
    found: set[Path] = set()
    for place in places:
        path = Path(place).expanduser().absolute()
        if (path / "dataset").is_dir():
            found |= {child for child in (path / "dataset").rglob("*.parquet") if "Npix=" in f"{child}"}
        elif path.is_dir():
            children = (child for child in path.iterdir() if not child.name.startswith("_"))
            found |= {child for child in children if child.is_file() and format_of(child)}
        elif path.is_file():
            if format_of(path) is None:
                raise InputError("unknown table format", value=path.name, limit=", ".join(FORMATS))
            found.add(path)
        else:
            found |= {child for child in path.parent.glob(path.name) if child.is_file() and format_of(child)}
    if not found:
        raise InputError("no source files found", value=" ".join(places), limit=", ".join(FORMATS))
    return sorted(found)


def source_record(site: Site, path: Path) -> FileRecord:
    """Describe a source file by its size, beginning and end; hashing all of it would take as long as the import.

    Raises
    ------
    OSError
        If the file does not exist.
    """
    size = path.stat().st_size
    digest = xxhash.xxh3_128(str(size).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(SAMPLE_BYTES))
        stream.seek(max(size - SAMPLE_BYTES, 0))
        digest.update(stream.read(SAMPLE_BYTES))
    return FileRecord.of(site, path, known_hash=digest.hexdigest())


class CataloguePlan:
    """The plan to build a reference catalogue.

    Parameters
    ----------
    name
        Name of the catalogue, and of its folder below the site's reference folder.
    sources
        Source files.
    site
        Site of the catalogue.
    settings
        Partitioning and rounding.
    mapping
        Column mapping of a photometric survey; None for Gaia's source tables.
    survey
        Name of a catalogue of context, in :data:`imaging.reference.surveys.SURVEYS`; None for stars.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Path],
        site: Site,
        settings: ReferenceCatalogueSettings,
        mapping: CatalogueMapping | None = None,
        survey: str | None = None,
    ) -> None:
        self.name, self.site, self.settings, self.mapping, self.survey = name, site, settings, mapping, survey
        self.records = {name: source_record(site, path) for name, path in _distinct_names(sources).items()}
        self.parameters = {"name": name, "mapping": None if mapping is None else mapping.model_dump_json()}
        if survey is not None:
            self.parameters["survey"] = survey

    @property
    def folder(self) -> Path:
        """The catalogue's folder."""
        return self.site.reference / self.name

    @property
    def topic(self) -> str:
        """The catalogue as the subject of jobs."""
        return f"catalogue-{self.name}"

    @property
    def build(self) -> dict[str, object]:
        """Sources and settings of the catalogue, as JSON for its build file."""
        inputs = {name: record.content_hash for name, record in self.records.items()}
        return {"inputs": inputs, "settings": self.settings.digest(), "parameters": self.parameters}

    def is_built(self) -> bool:
        """Whether the catalogue exists, complete and built from the same files and settings."""
        try:
            known = json.loads((self.folder / BUILD).read_text(encoding="utf-8"))
            rows = known.pop("rows")
        except (OSError, ValueError, KeyError):
            return False
        paths = (partition_path(self.folder, self.settings.order, int(pixel)) for pixel in rows)
        return bool(known == self.build and all(path.is_file() for path in paths))

    def import_jobs(self) -> list[StepJob]:
        """Plan the reading of every source file."""
        return [self._job(name, {"source": record}) for name, record in self.records.items()]

    def assemble_jobs(self, imported: Iterable[StepResult]) -> list[StepJob]:
        """Plan the assembly of the partitions, several per job, from the results of the import."""
        pieces: dict[int, dict[str, FileRecord]] = {}
        stars: Counter[int] = Counter()
        for result in imported:
            for piece, record in result.products.items():
                for pixel, n in json.loads(str(result.quality[f"rows_{piece}"])).items():
                    pieces.setdefault(int(pixel), {})[record.path] = record
                    stars[int(pixel)] += n
        jobs = []
        for pixels in _batches(stars):
            inputs = {path: record for pixel in pixels for path, record in sorted(pieces[pixel].items())}
            jobs.append(self._job(f"pixels-{pixels[0]}-{pixels[-1]}", inputs, pixels=pixels))
        return jobs

    def finish(self, assembled: Iterable[StepResult]) -> dict[int, int]:
        """Finish the catalogue, delete the pieces and their records; return HEALPix pixel to number of stars.

        Raises
        ------
        InputError
            If no row of the sources can be used.
        StorageError
            If a file cannot be written.
        """
        rows = {int(pixel): n for result in assembled for pixel, n in json.loads(str(result.quality["rows"])).items()}
        if not rows:
            raise InputError(
                "no row of the files has what the catalogue needs: a position, and a magnitude or distance",
                value=", ".join(sorted(self.records)),
                remedy="give other files; a catalogue that was there remains",
            )
        schema = REFERENCE_STARS if self.mapping is None else CALIBRATED_STARS
        if self.survey is not None:
            schema = SURVEYS[self.survey].schema
        finish_catalogue(self.folder, self.name, self.settings.order, rows, schema)
        write_text(self.folder / BUILD, json.dumps(self.build | {"rows": rows}, indent=1) + "\n")
        shutil.rmtree(pieces_folder(self.site, self.name), ignore_errors=True)
        for record in (self.site.records / self.topic).glob(f"{import_source.name}-*"):
            record.unlink(missing_ok=True)
        return rows

    def _job(self, part: str, inputs: Mapping[str, FileRecord], **more: object) -> StepJob:
        return StepJob(
            topic=self.topic,
            part=part,
            site=self.site,
            inputs=dict(inputs),
            settings=self.settings,
            parameters=self.parameters | more,
        )


def _distinct_names(sources: Sequence[Path]) -> dict[str, Path]:
    """Return files by name; those of one name, as in a HATS catalogue, with a part of their path's hash."""
    counts = Counter(path.name for path in sources)
    parts = {path: xxhash.xxh3_64_hexdigest(str(path).encode())[:8] for path in sources if counts[path.name] > 1}
    return {f"{parts[path]}-{path.name}" if path in parts else path.name: path for path in sources}


def _batches(stars: Mapping[int, int]) -> Iterator[list[int]]:
    """Split the pixels, in order, into batches that are limited in pixels and in stars."""
    batch: list[int] = []
    for pixel in sorted(stars):
        if batch and (len(batch) == PIXELS_PER_JOB or sum(stars[p] for p in [*batch, pixel]) > STARS_PER_JOB):
            yield batch
            batch = []
        batch.append(pixel)
    if batch:
        yield batch


def pieces_folder(site: Site, name: str) -> Path:
    """Return the folder of a catalogue's pieces."""
    return site.state / "catalogues" / name


@step(IMPORT_SOURCE)
def import_source(job: StepJob) -> StepResult:
    """Read one source file and write its stars into pieces, sorted by partition."""
    settings, times = job.settings_as(ReferenceCatalogueSettings), StepTimes()
    record = job.inputs["source"]
    stem = f"{Path(record.path).name}-{record.content_hash[:12]}"
    folder = pieces_folder(job.site, job.parameters["name"])
    products: dict[str, Path] = {}
    quality: dict[str, object] = {"size_mb": record.size / 1e6}
    n_stars = 0
    for number, stars in enumerate(_pieces(job, settings, times)):
        name = f"piece_{number}"
        products[name] = folder / f"{stem}-{number}.parquet"
        with times.step("write"):
            rows = write_pieces(products[name], stars, settings.order)
        quality[f"rows_{name}"] = json.dumps(rows)
        n_stars += stars.num_rows
    return job.result(products, quality=quality | {"n_stars": n_stars}, cpu_s=times.cpu_s)


def _pieces(job: StepJob, settings: ReferenceCatalogueSettings, times: StepTimes) -> Iterator[pa.Table]:
    """Yield the stars of a source file in tables of limited size."""
    path = job.input_path("source")
    survey = SURVEYS.get(job.parameters.get("survey", ""))
    text = job.parameters["mapping"]
    mapping = None if text is None else CatalogueMapping.model_validate_json(text)
    if survey is not None:
        batches = source_batches(path, survey.source_types(), survey.text)
    else:
        types, radians = (source_types(), ()) if mapping is None else (mapping.source_types(), mapping.radians)
        batches = source_batches(path, types, radians=radians)
    held: list[pa.Table] = []
    while True:
        with times.step("read"):
            batch = next(batches, None)
        if batch is not None:
            with times.step("convert"):
                if survey is not None:
                    held.append(convert(batch, survey, path.name))
                elif mapping is None:
                    held.append(reference_stars(batch, settings, path.name))
                else:
                    held.append(calibrated_stars(batch, mapping, settings, path.name))
        if held and (batch is None or sum(table.num_rows for table in held) >= STARS_PER_PIECE):
            yield pa.concat_tables(held).combine_chunks()
            held = []
        if batch is None:
            return


@step(ASSEMBLE)
def assemble(job: StepJob) -> StepResult:
    """Assemble some partitions of a catalogue from their pieces."""
    settings, times = job.settings_as(ReferenceCatalogueSettings), StepTimes()
    root = job.site.reference / job.parameters["name"]
    pixels, products, rows = job.parameters["pixels"], {}, {}
    with times.step("read"):
        found = [read_pieces(job.input_path(name), pixels) for name in job.inputs]
    for pixel in pixels:
        with times.step("merge"):
            stars = merge_pieces([piece.pop(pixel) for piece in found if pixel in piece])
        with times.step("write"):
            products[str(pixel)] = partition_path(root, settings.order, pixel)
            write_partition(products[str(pixel)], stars, settings.rows_per_group)
        rows[str(pixel)] = stars.num_rows
    return job.result(products, quality={"rows": json.dumps(rows)}, cpu_s=times.cpu_s)
