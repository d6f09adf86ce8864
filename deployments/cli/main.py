"""``gw-workflow``: gravitational-wave nights of the Dark Energy Camera, from raw exposures to ranked candidates.

Results go to standard output, progress, logs and errors to standard error.
"""

import importlib.metadata
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from deployments.cli import (
    alerting,
    building,
    caching,
    databases,
    demo,
    deploying,
    examining,
    exporting,
    exposures,
    images,
    listing,
    measuring,
    nights,
    original_calibration,
    pictures,
    preparing,
    ranking,
    reference,
    reporting,
    serving,
    simulating,
)
from deployments.cli.output import Answer, write_answer, write_error
from imaging.errors import GWWorkflowError, InputError
from tasks.engine.jobs import ExitCode

EXIT_CODES = (
    "Exit codes: 0 all good; 1 bad usage or input, nothing was started; 2 finished with CCDs missing; 3 failed. "
    "Every command takes --json: one document on standard output."
)

app = App(
    name="gw-workflow",
    help="Process gravitational-wave nights of the Dark Energy Camera: raw exposures in, ranked candidates out.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=lambda: _version(),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)
app.command(exposures.single_epoch, name="single-epoch")
app.command(exposures.calibrate, name="calibrate")
app.command(exposures.difference, name="difference")
app.command(exporting.export, name="export")
app.command(building.build_calibrations, name="build-calibrations")
app.command(building.build_sky_modes, name="build-sky-modes")
app.command(building.build_star_flat, name="build-star-flat")
app.command(images.difference_images, name="difference-images")
app.command(nights.night, name="night")
app.command(nights.register_night, name="register-night")
app.command(preparing.prepare_templates, name="prepare-templates")
app.command(listing.candidates, name="candidates")
app.command(pictures.candidate_pictures, name="candidate-pictures")
app.command(ranking.rank, name="rank")
app.command(reporting.report, name="report")
app.command(nights.status, name="status")
app.command(examining.doctor, name="doctor")
app.command(examining.timings, name="timings")
app.command(serving.serve, name="serve")
app.command(measuring.metrics, name="metrics")
app.command(alerting.listen, name="listen")
app.command(deploying.deploy, name="deploy")
app.command(deploying.settings, name="settings")
app.command(simulating.simulate, name="simulate")
app.command(demo.demo, name="demo")
app.command(original_calibration.export_calibration, name="export-calibration")
app.command(caching.cache)
app.command(databases.database)
app.command(reference.reference_catalog)


def run(arguments: Sequence[str]) -> ExitCode:
    """Run a command; return its exit code.

    Parameters
    ----------
    arguments
        Words of the command line after the program's name.
    """
    as_json = "--json" in arguments
    try:
        answer = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return write_error(_one_line(str(error)), ExitCode.BAD_INPUT, as_json=as_json)
    except InputError as error:
        return write_error(error.sentence(), ExitCode.BAD_INPUT, as_json=as_json)
    except GWWorkflowError as error:
        return write_error(error.sentence(), ExitCode.FAILED, as_json=as_json, about=error.details())
    except KeyboardInterrupt:
        message = "interrupted; what is finished is kept, run the same command again to go on"
        return write_error(message, ExitCode.FAILED, as_json=as_json)
    if not isinstance(answer, Answer):  # help and version have written what they had to say
        return ExitCode.COMPLETE
    return write_answer(answer, as_json=as_json and bool(answer.document))


def _version() -> str:
    """Return the version of the installed distribution; ``unknown`` in a bare checkout."""
    try:
        return importlib.metadata.version("gw-workflow")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _one_line(text: str) -> str:
    """Join the lines of a message."""
    return " ".join(text.split())


def main() -> None:
    """Run the command that the command line names."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
