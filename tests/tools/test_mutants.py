"""Mutants: which changes are made, and that a test which sees one finds it."""

import subprocess
import sys

import pytest

from tools import mutants
from tools.mutants import CORE, EQUIVALENT, ROOT, Copy, choose_changes, find_changes, try_folder

CORE_NAMES = [f"imaging.{folder}.{name}" for folder, names in CORE.items() for name in names.split()]

SUMS = '''"""Sums."""

from pkg import parts


class Sum:
    @cached(size=3)
    def of(self, a: "int | 1", b=2.0, *rest):
        """Return a - b."""
        if a < 0 and not b == 3:
            raise ValueError(f"{a - 1}" + "less than 0")
        self.ß, total = "é", -a + b  # a - b
        total *= 0.5
        flags: "a < b" = parts.mean(total, axis=1, strict=True) & ~rest[0]
        return total // 2 ** a, flags if self not in b and a is not None else a in b or a is b


def last(a):
    return a - 1
'''

RETURN = SUMS.splitlines()[14].strip()


def test_signs_bounds_factors_and_booleans_are_changed_and_nothing_else():
    assert [(c.line, c.old, c.new, c.text) for c in find_changes(SUMS, "Sum.of")] == [
        (10, "<", "<=", "if a <= 0 and not b == 3:"),
        (10, "0", "1", "if a < 1 and not b == 3:"),
        (10, "and", "or", "if a < 0 or not b == 3:"),
        (10, "not", "", "if a < 0 and  b == 3:"),
        (10, "==", "!=", "if a < 0 and not b != 3:"),
        (10, "3", "4", "if a < 0 and not b == 4:"),
        (12, "-", "", 'self.ß, total = "é", a + b  # a - b'),
        (12, "+", "-", 'self.ß, total = "é", -a - b  # a - b'),
        (13, "*=", "/=", "total /= 0.5"),
        (13, "0.5", "0.75", "total *= 0.75"),
        (14, "&", "|", 'flags: "a < b" = parts.mean(total, axis=1, strict=True) | ~rest[0]'),
        (14, "~", "", 'flags: "a < b" = parts.mean(total, axis=1, strict=True) & rest[0]'),
        (14, "0", "1", 'flags: "a < b" = parts.mean(total, axis=1, strict=True) & ~rest[1]'),
        (15, "2", "3", RETURN.replace("2", "3")),
        (15, "not", "", RETURN.replace("not in", " in")),
        (15, "and", "or", RETURN.replace("and", "or")),
        (15, "not", "", RETURN.replace("is not", "is ")),
        (15, "in", "not in", RETURN.replace("a in b", "a not in b")),
        (15, "or", "and", RETURN.replace(" or ", " and ")),
        (15, "is", "is not", RETURN.replace("is b", "is not b")),
    ]
    assert [c.text for c in find_changes(SUMS, "last")] == ["return a + 1", "return a - 2"]
    with pytest.raises(KeyError):
        find_changes(SUMS, "Sum.missing")


@pytest.mark.parametrize(
    ("before", "after"), [("0.0", "1.0"), ("1e-3", "0.0015"), ("1_000", "1001"), ("a > b", "a >= b")]
)
def test_a_number_never_stays_what_it_was(before, after):
    assert find_changes(f"def f(a, b):\n    return {before}\n", "f")[0].text == f"return {after}"


@pytest.mark.parametrize("name", CORE_NAMES)
def test_core_functions_exist_and_few_mutants_are_spread_over_all_of_their_text(name):
    every, some = choose_changes(name, 0), choose_changes(name, 4)
    assert len(every) > 4 and len(some) == 4
    assert [every.index(change) * 4 // len(every) for change in some] == [0, 1, 2, 3]


def test_equivalent_mutants_are_of_core_functions_as_they_stand():
    for (name, text), reason in EQUIVALENT.items():
        module, function = name.split(":")
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
        assert text in [change.text for change in find_changes(source, function)]
        assert name in CORE_NAMES and reason


def test_equivalent_mutants_are_left_out(monkeypatch):
    name = "imaging.io.raw:_data_length"
    every = choose_changes(name, 0)
    monkeypatch.setattr(mutants, "EQUIVALENT", {(name, every[1].text): "for this test"})
    assert choose_changes(name, 0) == [every[0], *every[2:]]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a working tree with a module, one that imports it, one that does not, and tests."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take seconds to load
    files = {
        "pkg/__init__.py": "",
        "pkg/half.py": "def half(a):\n    return a * 0.5 if a > 0 else 0.0\n",
        "pkg/use.py": "from pkg.half import half\n",
        "pkg/other.py": "",
        "tests/pkg/test_other.py": "def test_nothing():\n    pass\n",
        "tests/pkg/test_half.py": "from pkg import use\n\ndef test_half():\n    assert use.half(3.0) == 1.5\n",
        ".gitignore": "ignored.py\n",
        "ignored.py": "",
    }
    for name, text in files.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path / "project", check=True)
    return tmp_path / "project"


def test_a_mutant_is_found_or_survives_and_the_project_stays_as_it_is(project):
    source = (project / "pkg" / "half.py").read_text()
    changes = [change for change in find_changes(source, "half") if change.old in ("*", ">")]
    (outcome,) = try_folder(project, "pkg", {"pkg.half:half": changes}, 60.0)
    assert (outcome.found, [(c.old, c.new) for c in outcome.survived]) == (1, [(">", ">=")])
    assert (project / "pkg" / "half.py").read_text() == source


def test_tests_that_fail_without_a_change_stop_it(project):
    (project / "tests" / "pkg" / "test_other.py").write_text("def test_nothing():\n    assert 1 == 2\n")
    with pytest.raises(SystemExit, match=r"the tests of pkg fail without any change(.|\n)*1 == 2"):
        try_folder(project, "pkg", {}, 60.0)


def test_tests_that_never_end_find_a_mutant(project, tmp_path):
    (project / "tests" / "pkg" / "test_other.py").write_text("def test_nothing():\n    while True: pass\n")
    copy = Copy(project, tmp_path / "copy")
    assert copy.run_tests([str(copy.root / "tests" / "pkg" / "test_other.py")], 2.0) != 0


def test_machine_code_of_all_that_may_call_a_changed_kernel_is_forgotten(project, tmp_path):
    copy = Copy(project, tmp_path / "copy")
    assert not (copy.root / "ignored.py").exists()
    module = copy.root / "pkg" / "half.py"
    assert copy.importers(module)[copy.root / "tests" / "pkg" / "test_half.py"] == 2
    (copy.kernels / "pkg_1").mkdir(parents=True)
    for name in ("half.f-1.py312.nbi", "half.twice-1.py312.nbi", "half.g-1.py312.1.nbc", "use.g-1.py312.1.nbc"):
        (copy.kernels / "pkg_1" / name).touch()
    (copy.kernels / "pkg_1" / "other.h-1.py312.nbi").touch()
    compiled = module.parent / "__pycache__" / "half.cpython-312.pyc"
    compiled.parent.mkdir()
    compiled.touch()
    before = module.stat()
    copy.write(module, "def f():\n    return 1\n\ndef twice():\n    return 2 * f()\n\ndef g():\n    return 3\n", "f")
    assert sorted(p.name for p in (copy.kernels / "pkg_1").iterdir()) == ["half.g-1.py312.1.nbc", "other.h-1.py312.nbi"]
    assert not compiled.exists()
    # Numba takes the file for the same.
    assert (module.stat().st_mtime, module.stat().st_size) == (before.st_mtime, before.st_size)
    assert module.read_text().startswith("def f():\n    return 1\n")


def test_the_command_lists_what_it_would_change(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mutants", "io", "--list", "--most", "2"])
    mutants.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 * 3 and lines[0] == "imaging.io.raw:_data_length"


@pytest.mark.parametrize("survived", [0, 1])
def test_the_status_says_whether_a_mutant_survived(capsys, monkeypatch, survived):
    def outcomes(root, folder, functions, limit_s):
        return [mutants.Outcome(n, "x.py", len(c) - survived, c[:survived]) for n, c in functions.items()]

    monkeypatch.setattr(mutants, "try_folder", outcomes)
    monkeypatch.setattr(sys, "argv", ["mutants", "--function", "imaging.io.raw:_data_length", "--most", "3"])
    with pytest.raises(SystemExit) as end:
        mutants.main()
    assert end.value.code == survived
    assert f"imaging.io.raw:_data_length: 3 mutants, {3 - survived} found" in capsys.readouterr().out
