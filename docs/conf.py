"""How Sphinx builds the documentation: ``make docs``, offline, with warnings as errors."""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

from tsssm import __version__
from tsssm.persistence import kinds

project = "tsssm"
author = "the tsssm developers"
copyright = "2026, " + author  # noqa: A001
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_sidebars = {"mathematics": [], "start": []}
html_show_sourcelink = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "pictures",
    "filename_pattern": "/plot_",
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "abort_on_example_error": True,
    "show_signature": False,
    "download_all_examples": False,
}

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections have them
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "code"


class ModelFiles(Directive):
    """What model files hold of each class, as it declares it."""

    def run(self) -> list[nodes.Node]:
        """Return a list of fields under the name of each class."""
        importlib.import_module("tsssm.estimators")  # which declares it
        found: list[nodes.Node] = []
        for name, kind in sorted(kinds.items(), key=lambda pair: pair[0].lower()):
            fields = [
                nodes.field(
                    "",
                    nodes.field_name("", "", nodes.literal(text=field)),
                    nodes.field_body("", nodes.paragraph(text=what)),
                )
                for field, what in kind.holds.items()
            ]
            found += [nodes.rubric(text=f"{name}, version {kind.version}"), nodes.field_list("", *fields)]
        return found


def setup(app: Any) -> None:
    """Let pages have it."""
    app.add_directive("model-files", ModelFiles)
