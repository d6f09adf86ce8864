"""Let Prefect's pages say what the parameters of a flow mean.

Prefect finds the descriptions of parameters in docstrings of Google's style only; those of the flows are numpydoc. To
let it look again would take as long as all else about a flow: the schema of its settings is large.
"""

import inspect
from typing import Any, TypeVar

from griffe import Docstring, DocstringSectionKind, Parser, parse
from prefect import Flow
from prefect.logging.loggers import disable_logger

AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])


def described(run: AnyFlow) -> AnyFlow:
    """Describe a flow and its parameters on Prefect's pages as its numpydoc docstring does.

    Parameters
    ----------
    run
        The flow; it is changed.

    Returns
    -------
    run
        The same flow.
    """
    summary: list[str] = []
    parameters: dict[str, str] = {}
    with disable_logger("griffe"):
        sections = parse(Docstring(inspect.getdoc(run.fn) or ""), Parser.numpy)
    for section in sections:
        if section.kind is DocstringSectionKind.text and not parameters:
            summary.append(section.value)
        elif section.kind is DocstringSectionKind.parameters:
            parameters |= {item.name: " ".join(item.description.split()) for item in section.value}
    run.description = "\n\n".join(summary)
    lines = [f"    {name}: {text}" for name, text in parameters.items()]
    run.__doc__ = "\n".join([run.description, "", "Args:", *lines])
    for name, schema in run.parameters.properties.items():
        if name in parameters:
            schema["description"] = parameters[name]
    return run
