"""What the newcomer's pages contain, and a copy of the layers in which their examples are put."""

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import flows.night  # noqa: F401 (with all steps of a night, before an example takes the place of one of their modules)
from tasks.engine import code_version as versions

ROOT = Path(__file__).resolve().parents[2]

LAYERS = ("imaging", "imaging.masks", "tasks", "flows")
"""Packages into which examples put modules."""


@dataclass(frozen=True)
class Block:
    """One code block: its language, the file that its first line names, and its text."""

    language: str
    file: str
    text: str


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str) -> list[Block]:
    found = []
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page(name), flags=re.MULTILINE | re.DOTALL):
        first = text.partition("\n")[0]
        file = re.search(r"[\w/]+\.(?:py|json)", first) if first.startswith(("#", "---")) else None
        found.append(Block(language, file[0] if file else "", text))
    return found


def block(name: str, file: str) -> Block:
    (found,) = [block for block in blocks(name) if block.file == file]
    return found


def table(name: str, first_column: str) -> list[dict[str, str]]:
    """Return the rows of the table whose first column has this title."""
    lines = iter(page(name).splitlines())
    head = next(line for line in lines if line.startswith(f"| {first_column} |"))
    titles = [cell.strip() for cell in head.strip("|").split("|")]
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(titles, [cell.strip() for cell in line.strip("|").split("|")], strict=True)))
    return rows


def patched(original: str, diff: str) -> str:
    """Apply the hunks of a diff, which ``@@`` separates; each must fit the file in one place."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
        new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
        assert original.count(old) == 1, f"the page quotes what is not (once) in the file:\n{old}"
        original = original.replace(old, new)
    return original


def added(diff: str, indent: str = "    ") -> str:
    """Return the lines that a diff adds inside functions."""
    return "".join(f"{line[1:]}\n" for line in diff.splitlines() if line.startswith(f"+{indent}"))


class Overlay:
    """Folders in front of the layers: modules written there are imported, and versioned, as if they were theirs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changed: dict[str, ModuleType | None] = {}
        for name in LAYERS:
            self._folder(name).mkdir(parents=True, exist_ok=True)
            importlib.import_module(name).__path__.insert(0, str(self._folder(name)))

    def write(self, file: str, text: str) -> Path:
        path = self.root / file
        path.write_text(text, encoding="utf-8")
        return path

    def load(self, file: str) -> ModuleType:
        """Import a module as it is now, as a new process would."""
        name = file.removesuffix(".py").replace("/", ".")
        self.changed.setdefault(name, sys.modules.get(name))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            return importlib.import_module(name)
        finally:
            sys.dont_write_bytecode = before
            forget_versions()

    def close(self) -> None:
        for name in LAYERS:
            importlib.import_module(name).__path__.remove(str(self._folder(name)))
        for name, module in self.changed.items():
            package, _, short = name.rpartition(".")
            sys.modules.pop(name, None)
            if module is None:
                vars(sys.modules[package]).pop(short, None)
            else:
                sys.modules[name] = module
                setattr(sys.modules[package], short, module)
        forget_versions()

    def _folder(self, name: str) -> Path:
        return self.root.joinpath(*name.split("."))


def forget_versions() -> None:
    """Forget what this process knows of sources, as a new one would not know it."""
    for known in (
        versions._version_of,
        versions._source_of,
        versions._library_version,
        versions._sources,
        versions._is_module,
    ):
        known.cache_clear()
