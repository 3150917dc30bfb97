"""Captum, which is imported only when an attribution is asked for."""

from __future__ import annotations

from typing import Any


def captum_attr() -> Any:
    """Return the module ``captum.attr``.

    Raises
    ------
    ImportError
        If Captum is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError("attributions need the package captum: pip install 'tsssm[explain]'.") from error
    return captum.attr
