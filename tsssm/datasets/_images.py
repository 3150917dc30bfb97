"""Images read pixel by pixel: sequential MNIST and CIFAR-10."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from tsssm.datasets._bunch import checked_part, result
from tsssm.datasets._files import Store, members
from tsssm.datasets._formats import read_cifar, read_idx

_MNIST = {"train": "train", "test": "t10k"}
_CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
_CIFAR_FILES = {**{f"data_batch_{i}.bin": "train" for i in range(1, 6)}, "test_batch.bin": "test"}
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, of red, green, blue


def fetch_mnist(
    permuted: bool = False,
    *,
    part: str = "all",
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch MNIST as series of 784 pixels, row by row.

    Parameters
    ----------
    permuted : bool, default=False
        Put the pixels of all images into one random order (seed 0): permuted sequential MNIST.
    part : {"all", "train", "test"}, default="all"
        The published split: 60,000 and 10,000 images.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data`` (n, 1, 784) float32, brightness from 0 to 1; ``target`` (n,) int64, the digit; ``part`` (n,);
        ``permutation`` (784,), the pixel at each place of a series; ``feature_names``; ``groups`` None;
        ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown part, and a file that is damaged.
    FileNotFoundError, ConnectionError
        Where a file is missing and cannot be downloaded; says where to get it and where to put it.

    References
    ----------
    LeCun et al., Proceedings of the IEEE 86(11), 1998, doi 10.1109/5.726791. As series: Le et al., arXiv
    1504.00941, 2015.
    """
    checked_part(part)
    store = Store(data_home, download_if_missing)
    images, labels, parts = [], [], []
    for name, prefix in _MNIST.items():
        if part in ("all", name):
            path = store.get("mnist", f"{prefix}-images-idx3-ubyte.gz")
            image = read_idx(path)
            label = read_idx(store.get("mnist", f"{prefix}-labels-idx1-ubyte.gz"))
            if image.ndim != 3 or label.shape != image.shape[:1]:
                raise ValueError(f"{path} holds images {image.shape}, but there are labels {label.shape}.")
            images.append(image.reshape(len(image), -1))
            labels.append(label.astype(np.int64))
            parts.append(np.full(len(label), name))
    pixels = np.concatenate(images)
    order = np.arange(pixels.shape[1])
    if permuted:
        order = np.random.default_rng(0).permutation(order)
        pixels = pixels[:, order]
    return result(
        "mnist",
        pixels[:, np.newaxis].astype(np.float32) / np.float32(255),
        np.concatenate(labels),
        return_X_y=return_X_y,
        feature_names=["brightness"],
        parts=np.concatenate(parts),
        permutation=order,
    )


def fetch_cifar10(
    *,
    grayscale: bool = False,
    part: str = "all",
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch CIFAR-10 as series of 1,024 pixels, row by row.

    Parameters
    ----------
    grayscale : bool, default=False
        One channel of brightness, 0.299 red + 0.587 green + 0.114 blue, instead of three of colour.
    part : {"all", "train", "test"}, default="all"
        The published split: 50,000 and 10,000 images.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data`` (n, 3, 1024) or (n, 1, 1024) float32 from 0 to 1; ``target`` (n,) int64; ``target_names``,
        the ten classes; ``part`` (n,); ``feature_names``; ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown part, and an archive that is damaged or incomplete.
    FileNotFoundError, ConnectionError
        Where the archive is missing and cannot be downloaded; says where to get it and where to put it.

    References
    ----------
    Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto, 2009.
    """
    checked_part(part)
    path = Store(data_home, download_if_missing).get("cifar10", "cifar-10-binary.tar.gz")
    wanted = {file for file, which in _CIFAR_FILES.items() if part in ("all", which)}
    batches = {}
    for name, content in members(path, lambda name: name.name in wanted):
        batches[name.name] = read_cifar(content, str(name))
    if wanted - set(batches):
        raise ValueError(f"{path} lacks {', '.join(sorted(wanted - set(batches)))}.")
    files = sorted(batches)
    data = np.concatenate([batches[file][0] for file in files]).astype(np.float32) / np.float32(255)
    if grayscale:
        data = np.einsum("ncl,c->nl", data, _LUMA)[:, np.newaxis]
    return result(
        "cifar10",
        data,
        np.concatenate([batches[file][1] for file in files]),
        return_X_y=return_X_y,
        feature_names=["brightness"] if grayscale else ["red", "green", "blue"],
        parts=np.concatenate([np.full(len(batches[file][1]), _CIFAR_FILES[file]) for file in files]),
        target_names=list(_CIFAR_CLASSES),
    )
