"""A reference catalogue: from the files of an archive to partitions by position.

map import_source (select columns, split into pieces) -> map assemble (pieces into partitions) -> finish
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from blocks.folders import load_site
from imaging.reference.mapping import CatalogueMapping
from imaging.reference.settings import ReferenceCatalogueSettings
from tasks.engine.final_state import final_state, keep_result
from tasks.engine.limits import slot
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.import_catalogue import CataloguePlan, assemble, find_sources, import_source
from tasks.jobs import StepJob
from tasks.requests import Name
from tasks.steps import WRITE_REFERENCE


@keep_result
@flow(name="reference-catalogue", flow_run_name="reference-catalogue-{name}", task_runner=ComputeTaskRunner())
def reference_catalogue(
    sources: Annotated[tuple[Name, ...], Field(min_length=1)],
    name: Name = "gaia",
    site: str = "default",
    mapping: CatalogueMapping | None = None,
    survey: Name | None = None,
    overwrite: bool = False,
    settings: ReferenceCatalogueSettings = ReferenceCatalogueSettings(),
) -> State[dict[str, Any]]:
    """Build a reference catalogue of a site.

    Args:
        sources: Files, folders or glob patterns of the source tables.
        name: Name of the catalogue, and of its folder below the site's reference folder.
        site: Name or folder of the site.
        mapping: Column mapping of a photometric survey; None for Gaia's source tables.
        survey: Name of a catalogue of galaxies or of known sources; None for stars.
        overwrite: Recompute cached steps.
        settings: Partitioning and rounding.

    Raises:
        InputError: If there are no source files, or none of their rows can be used.
    """
    place = load_site(site)
    plan = CataloguePlan(name, find_sources(sources), place, settings, mapping, survey)
    what = f"catalogue {name}"
    stage = Stage("reference-catalogue", StepJob(topic=f"catalogue-{name}", site=place), overwrite=overwrite)
    if plan.is_built() and not overwrite:
        return final_state(what, [name], {}, summary=stage.summary(()) | {"already_built": True})

    with slot(WRITE_REFERENCE):
        imported = stage.map_all(import_source, plan.import_jobs())
        if stage.others:
            return final_state(what, (), stage.others, summary=stage.summary(()))
        assembled = stage.map_all(assemble, plan.assemble_jobs(imported))
        if stage.others:
            return final_state(what, (), stage.others, summary=stage.summary(()))
        rows = plan.finish(assembled)
    about = {
        "folder": str(plan.folder),
        "n_stars": sum(rows.values()),
        "n_partitions": len(rows),
        "source_mb": sum(record.size for record in plan.records.values()) / 1e6,
        "catalogue_mb": sum(file.size for result in assembled for file in result.products.values()) / 1e6,
    }
    return final_state(what, [name], {}, summary=stage.summary(()) | about)
