"""Rules of the project that neither the linters nor the import contracts can check."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

from tsssm import estimators

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
MAX_LINES = 400


def requirements() -> dict[str, Requirement]:
    """What the package and its tests need, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return {Requirement(line).name: Requirement(line) for line in listed}


def pins(file: str) -> dict[str, str]:
    """Pinned versions of a constraints file that apply to this Python, by name."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    environment = dict(default_environment())
    chosen = [pin for pin in found if pin.marker is None or pin.marker.evaluate(environment)]
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in chosen}


def torch_minimum() -> str:
    """The lowest torch, which stands in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.findall(r"^TORCH_MINIMUM \?= (\S+)$", makefile, re.MULTILINE)[0]


@pytest.mark.parametrize("folder", ["tsssm", "examples"])
def test_no_module_is_too_long(folder: str) -> None:
    modules = list((ROOT / folder).rglob("*.py"))
    lengths = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in modules}
    assert lengths
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def functions(folder: str) -> dict[str, ast.FunctionDef]:
    """Functions in a folder of the package, by file and line."""
    paths = sorted((ROOT / "tsssm" / folder).rglob("*.py"))
    assert paths
    return {
        f"{path.relative_to(ROOT)}:{node.lineno}": node
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


def count(node: ast.FunctionDef) -> tuple[int, int]:
    """Parameters and lines."""
    given = node.args
    return len(given.posonlyargs + given.args + given.kwonlyargs), (node.end_lineno or 0) - node.lineno + 1


def test_the_engine_does_not_grow() -> None:
    """Lower the figures with each part of it that is written anew."""
    files = list((ROOT / "tsssm" / "ops" / "cpu").rglob("*.py"))
    assert sum(len(path.read_bytes().splitlines()) for path in files) <= 8600
    found = {place: count(node) for place, node in functions("ops/cpu").items()}
    assert sum(lines > 60 for _, lines in found.values()) <= 2
    assert max(lines for _, lines in found.values()) <= 120
    # Those that take the tensors of an operation one by one, as its reference does; and the stream, where a
    # call is one sample and a tuple would cost more than what it holds.
    long = {place.split(":")[0] for place, (parameters, _) in found.items() if parameters > 12}
    assert {path.removeprefix("tsssm/ops/cpu/") for path in long} <= {
        "diagonal/scan.py",
        "dplr/scan.py",
        "features/scan.py",
        "stream/network.py",
        "stream/operands.py",
    }


def test_a_pass_over_time_is_written_once_for_the_scans_by_modes() -> None:
    """Cells say what a step is; how chunks, directions and saved states go is known to ``passes`` alone."""
    folder = ROOT / "tsssm" / "ops" / "cpu"
    series = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("diagonal/kernels.py", "dplr/passes.py")
    }
    for name, text in series.items():
        assert "forward_series(" in text and "backward_series(" in text, name
        assert "saved" not in re.sub(r'"""[\s\S]*?"""', "", text), name


def test_the_bound_of_liquid_terms_stands_in_few_files() -> None:
    """Its value and the clip: once each for PyTorch, Numba, Triton and ONNX; and three docstrings."""
    says = re.compile(r'def (?:bounded_input|liquid_bound|clipped)|"Min", g\.op\("Max"|clipped to|u clipped')
    found = {
        str(path.relative_to(ROOT / "tsssm"))
        for path in (ROOT / "tsssm").rglob("*.py")
        if says.search(path.read_text(encoding="utf-8")) and "iquid" in path.read_text(encoding="utf-8")
    }
    assert {"ops/bounds.py", "ops/cpu/bounds.py", "ops/gpu/rules.py", "exporting/_cells.py"} <= found
    assert len(found) <= 8, found


def test_few_of_our_classes_make_an_estimator() -> None:
    """An estimator has its targets, its features and its network; it is not made of them."""
    public = [getattr(estimators, name) for name in estimators.__all__]
    chains = {
        cls.__name__: [base.__name__ for base in cls.__mro__ if base.__module__.partition(".")[0] == "tsssm"]
        for cls in public
        if isinstance(cls, type)
    }
    assert len(chains) == 9
    assert {name: chain for name, chain in chains.items() if len(chain) > 3} == {}


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in modules else str(node.module) for name in names}
    return found & set(modules)


def test_no_module_imports_one_that_imports_it() -> None:
    paths = sorted((ROOT / "tsssm").rglob("*.py"))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }
    graph = {name: imports_of(path, modules) - {name} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_types_are_ignored_in_few_places() -> None:
    lines = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "tsssm").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "type: ignore" in line
    ]
    assert len(lines) <= 5, lines


def test_bounds_are_the_versions_that_are_tested() -> None:
    tested = pins("constraints-minimum.txt") | {"torch": torch_minimum()}
    newest = pins("constraints.txt")
    for name, need in requirements().items():
        bounds = {bound.operator: Version(bound.version) for bound in need.specifier}
        assert bounds.pop(">=") == Version(tested[name]), name
        # Where hooks are used that may change with any release, the one after the newest tested is excluded.
        if name in ("numba", "lightning"):
            major, minor, *_ = Version(newest[name]).release
            assert bounds.pop("<") == Version(f"{major}.{minor + 1}"), name
        assert not bounds, name


def test_ci_pins_every_requirement_within_its_bound() -> None:
    pinned = pins("constraints.txt")
    for name, need in requirements().items():
        assert pinned.get(name, "") in need.specifier, name
