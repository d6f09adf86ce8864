"""``gw-workflow``: gravitational-wave nights of the Dark Energy Camera, from raw exposures to ranked candidates.

Results go to standard output, progress, logs and errors to standard error.
"""

import io
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from deployments.cli.output import Answer, write_answer, write_error
from imaging.errors import GWWorkflowError, InputError
from imaging.io.access import told
from imaging.memory import memory_limit_bytes
from imaging.version import package_version
from tasks.engine.jobs import ExitCode
from tasks.engine.machine import sentence_of_memory

EXIT_CODES = (
    "Exit codes: 0 complete; 1 bad usage or input, nothing was started; 2 complete with CCDs missing; 3 failed. "
    "With --json every command writes one JSON document to standard output."
)

COMMANDS = {
    "exposures": ("single-epoch", "calibrate", "difference", "export", "export-calibration"),
    "images": ("difference-images", "import-images"),
    "nights": ("night", "status", "rank"),
    "registration": ("register-night",),
    "raw": ("add-raw",),
    "templates": ("prepare-templates",),
    "candidates": ("candidates", "candidate-pictures", "report"),
    "calibrations": (
        "build-brighter-fatter",
        "build-calibrations",
        "build-crosstalk",
        "build-linearity",
        "build-pixel-displacement",
        "build-ghosts",
        "build-sky-modes",
        "build-star-flat",
        "import-calibrations",
    ),
    "catalogues": ("reference-catalog",),
    "archive": ("archive",),
    "planning": ("plan",),
    "server": ("serve", "sign-in", "rotate-secret", "deploy", "settings", "listen", "metrics", "database"),
    "disk": ("tidy",),
    "site": ("doctor", "share", "backup", "restore", "timings", "cache"),
    "clusters": ("make-certificate", "dask-scheduler", "dask-workers"),
    "demo": ("demo", "simulate"),
}
"""Modules of this package and the commands in them. A command imports its own module; only ``--help`` imports all."""

app = App(
    name="gw-workflow",
    help="Process gravitational-wave nights of the Dark Energy Camera: raw exposures in, ranked candidates out.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=package_version,
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)
for _module, _names in COMMANDS.items():
    for _name in _names:
        app.command(f"deployments.cli.{_module}:{_name.replace('-', '_')}", name=_name)


def run(arguments: Sequence[str]) -> ExitCode:
    """Run a command; return its exit code.

    Parameters
    ----------
    arguments
        Words of the command line after the program's name.
    """
    arguments = with_numbers(arguments)
    as_json = "--json" in arguments
    if not arguments or arguments[0] in ("--help", "-h"):
        app.resolved_commands()  # the list of commands shows the first line of each docstring
    try:
        answer = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return write_error(_one_line(str(error)), ExitCode.BAD_INPUT, as_json=as_json)
    except InputError as error:
        return write_error(error.sentence(), ExitCode.BAD_INPUT, as_json=as_json)
    except GWWorkflowError as error:
        return write_error(error.sentence(), ExitCode.FAILED, as_json=as_json, about=error.details())
    except OSError as error:
        refused = told(error)
        if refused is None:
            raise
        return write_error(refused.sentence(), ExitCode.BAD_INPUT, as_json=as_json)
    except MemoryError as error:
        message = sentence_of_memory(error, memory_limit_bytes())
        return write_error(message, ExitCode.FAILED, as_json=as_json)
    except KeyboardInterrupt:
        message = "interrupted; finished steps are kept, run the same command again to continue"
        return write_error(message, ExitCode.FAILED, as_json=as_json)
    if not isinstance(answer, Answer):  # help and version have written their text
        return ExitCode.COMPLETE
    return write_answer(answer, as_json=as_json and bool(answer.document))


def with_numbers(arguments: Sequence[str]) -> list[str]:
    """Return the words with a number after each ``--verbose``: the one that follows it, or 1."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] == "--verbose" and len(word) == 1 and word.isdigit():
            words[-1] += f"={word}"
        else:
            words.append(word)
    return ["--verbose=1" if word == "--verbose" else word for word in words]


def _one_line(text: str) -> str:
    """Join the lines of a message."""
    return " ".join(text.split())


def main() -> None:
    """Run the command that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show is no reason to end
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
