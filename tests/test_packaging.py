"""What is published: the source archive, the wheel that is built from it, and what they say of themselves."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import tsssm

ROOT = Path(__file__).parents[1]


def built(kind: str, source: Path, target: Path) -> Path:
    """Build the wheel or the source archive of a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the unpacked source archive and not from this folder."""
    folder = tmp_path_factory.mktemp("published")
    with tarfile.open(built("sdist", ROOT, folder / "sdist")) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "examples/quickstart.py"):
        assert (source / name).is_file(), name
    return built("wheel", source, folder / "wheel")


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (where,) = (name for name in names if name.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(where).decode())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"tsssm", f"tsssm-{tsssm.__version__}.dist-info"}
    assert {"tsssm/py.typed", "tsssm/_datasets_registry/registry.json"} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tsssm").rglob("*.py")}
    assert modules <= names
    assert metadata["Version"] == tsssm.__version__ and metadata["License-Expression"] == "BSD-3-Clause"
    assert {"plot", "onnx"} <= set(metadata.get_all("Provides-Extra"))


def test_the_package_runs_from_the_wheel_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import tsssm; from tsssm.datasets import make_icu; data = make_icu(20, random_state=0); "
        "print(tsssm.__file__, len(data.data), len(data.DESCR) > 100)"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {script}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == [str(tmp_path / "tsssm" / "__init__.py"), "20", "True"], done.stderr


def test_the_changelog_says_what_has_changed():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert sections[0] in ("Unreleased", tsssm.__version__)
    assert "dev" not in tsssm.__version__ or sections[0] == "Unreleased"
    newest = text.split("\n## ")[1]
    assert newest.count("\n- ") >= 1 and set(re.findall(r"^### (\w+)", newest, flags=re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }
