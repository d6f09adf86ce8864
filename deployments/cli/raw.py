"""The command add-raw: enter raw files into the index of a site."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer
from imaging.errors import InputError
from tasks.engine.jobs import ExitCode

SAID_EACH = 1000
"""Files between two lines of progress."""


def add_raw(
    *paths: Annotated[Path, Parameter(help="Raw files of any name, and folders with them: .fits, .fz, .gz.")],
    copy: Annotated[bool, Parameter(name="--copy", negative="", help="Copy them into the raw folder.")] = False,
    link: Annotated[bool, Parameter(name="--link", negative="", help="Link them into the raw folder.")] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Make raw files known to the site by their headers, wherever they lie and whatever they are called."""
    from deployments.events import add_raw as adding

    if not paths:
        raise InputError("no raw files given", remedy="gw-workflow add-raw FOLDER")
    if copy and link:
        raise InputError("--copy and --link exclude each other", remedy="give one of them")

    def say(done: int) -> None:
        if done % SAID_EACH == 0:
            sys.stderr.write(f"gw-workflow: {done} files\n")

    site = find_site(common).site
    added = adding.add_raw(site, paths, "copy" if copy else "link" if link else "index", say=say)
    document = {
        "command": "add-raw",
        "new": [{"path": str(file.path), "expnum": file.exposure.expnum} for file in added.new if file.exposure],
        "n_known": len(added.known),
        "unfinished": [str(file.path) for file in added.unfinished],
        "duplicates": {str(expnum): list(map(str, files)) for expnum, files in added.duplicates.items()},
        "conflicts": added.conflicts,
        "left": {str(path): reason for path, reason in added.left.items()},
    }
    incomplete = added.conflicts or added.unfinished
    return Answer(document, adding.added_lines(added), ExitCode.MISSING if incomplete else ExitCode.COMPLETE)
