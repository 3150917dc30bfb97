"""Model files of estimators, alone or inside of one of scikit-learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from tsssm.estimators._composites import Composite
from tsssm.estimators._earlier_files import upgrade
from tsssm.estimators._model_state import is_ours
from tsssm.persistence import SUFFIX, ModelFileError, read, write


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted estimator, or one of scikit-learn that holds some of ours, to a model file.

    Parameters
    ----------
    estimator : estimator
        One of ours, or a pipeline, a calibrated classifier, a search or any other estimator of scikit-learn
        with ours inside. The rest of it has to be scikit-learn's, SciPy's and NumPy's own: skops (``pip
        install 'tsssm[skops]'``) writes it by its attributes.
    path : path
        Ending in ".safetensors"; replaces an older file at once, or not at all.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        For a path with another ending.
    UnsavableError
        If it holds no estimator of ours, if it holds objects that skops does not trust, such as functions of
        yours, or if skops is not installed.
    OSError
        If the file cannot be written.

    See Also
    --------
    tsssm.load : Reads it.

    Notes
    -----
    A file is read by the scikit-learn that wrote it. With another version, skops may fail to.
    """
    if Path(path).suffix != SUFFIX:
        raise ValueError(f"path must end in {SUFFIX!r}; got {str(path)!r}.")
    if is_ours(estimator):
        estimator.save(path)
        return
    check_is_fitted(estimator)
    write(path, Composite(estimator), type(estimator).__name__)


def load(path: str | os.PathLike[str]) -> Any:
    """Return the fitted estimator that ``save`` wrote to a model file.

    Nothing from the file is run, and Lightning is not needed. The network is on the CPU, wherever it was
    trained, and predicts on the device that ``accelerator`` names, or on the CPU where there is none.

    Parameters
    ----------
    path : path
        A file that an estimator's ``save`` wrote, ending in ".safetensors".

    Returns
    -------
    estimator
        Fitted, of the class that was saved: one of ours, or of scikit-learn with ours inside.

    Raises
    ------
    FileNotFoundError
        If there is no such file; says so if there is one that ``save`` wrote without an ending.
    ModelFileError
        If the file is no model file, is cut off or damaged, was written by a newer tsssm, or holds an
        estimator whose class has not been imported. It is a ValueError.
    """
    zipped = Path(f"{os.fspath(path)}.zip")
    if not Path(path).exists() and zipped.exists():
        raise FileNotFoundError(
            f"There is no {str(path)!r}, but there is {str(zipped)!r}, which save wrote in sktime's format "
            f"because the name had no ending. It holds pickles: read it with sktime.base.load. For a file "
            f"that tsssm.load reads, save to a name that ends in {SUFFIX!r}."
        )
    estimator = read(path, upgrade)
    if isinstance(estimator, Composite):
        return estimator.put_together()
    if not is_ours(estimator):
        raise ModelFileError(f"{path} holds a {type(estimator).__name__}, which is not an estimator.")
    return estimator
