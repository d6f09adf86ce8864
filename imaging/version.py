"""Version of the installed package."""

import importlib.metadata


def package_version() -> str:
    """Return the version of the installed distribution; ``unknown`` in a bare checkout."""
    try:
        return importlib.metadata.version("gw-workflow")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
