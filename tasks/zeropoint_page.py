"""Show the zero points of an exposure on the page of its run."""

from blocks.site import Site
from imaging.identity import ExposureId
from imaging.pictures.zeropoints import NAMES
from tasks.pages import embedded
from tasks.records import StepJob
from tasks.run_page import page_run, show


def exhibit_zeropoints(exposure: ExposureId, site: Site) -> None:
    """Put the focal-plane pictures of an exposure's zero points on the page of the run; outside of one, do nothing."""
    run = page_run()
    if run is None:
        return
    job = StepJob(exposure=exposure, site=site)
    paths = {label: job.product_path(f"{suffix}.png") for suffix, label in NAMES.items()}
    images = [embedded(path.read_bytes(), label) for label, path in paths.items() if path.is_file()]
    what = f"exposure {exposure.expnum} ({exposure.band})"
    page = f"# Zero points of {what}\n\n" + "\n\n".join(images) + "\n"
    show(run, "markdown", f"zero-points-{exposure.expnum}", page, f"Zero points of {what}, their deviations and stars")
