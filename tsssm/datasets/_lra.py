"""Long Range Arena: long sequences of symbols, bytes and pixels."""

from __future__ import annotations

import lzma
import random
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._bunch import checked_choice, checked_part, result
from tsssm.datasets._files import Store, members
from tsssm.datasets._images import fetch_cifar10
from tsssm.datasets._listops import VOCABULARY, expressions, text
from tsssm.datasets._tokens import Tokens, token_features, token_panel

_PARTS = {
    "listops": ("train", "validation", "test"),
    "text": ("train", "test"),
    "retrieval": ("train", "validation", "test"),
    "image": ("train", "test"),
}
_LISTOPS_SIZES = {"train": 96_000, "validation": 2_000, "test": 2_000}
_LISTOPS_FILES = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
_RETRIEVAL_FILES = {
    part: f"new_aan_pairs.{name}.tsv"
    for part, name in (("train", "train"), ("validation", "eval"), ("test", "test"))
}
_TEXT_LENGTH = 4096  # bytes of a review
_DOCUMENT_LENGTH = 4000  # bytes of each of two documents
_BYTES = tuple(f"0x{byte:02x}" for byte in range(256))
_SEPARATOR = 256

Sequences = tuple[list[Tokens], list[int]]  # symbols and labels


def fetch_lra(
    task: str,
    *,
    part: str = "all",
    one_hot: bool = False,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch a task of the Long Range Arena.

    Parameters
    ----------
    task : {"listops", "text", "retrieval", "image"}
        The value of a nested expression of 500 to 2,000 symbols (10 classes); whether a film review is
        positive, from up to 4,096 bytes; whether two papers cite one another, from up to 4,000 bytes of each;
        the class of a grey CIFAR-10 image from its 1,024 pixels. ListOps is made by :func:`make_listops` with
        the parameters of the paper and a fixed seed, once, which takes minutes, unless the released files are
        there.
    part : {"all", "train", "validation", "test"}, default="all"
        Published part; "text" and "image" have no validation part.
    one_hot : bool, default=False
        A channel for each symbol: 15 of ListOps, 256 or 257 of bytes. Otherwise one channel with the numbers
        of the symbols. All of ListOps takes 0.4 GB as numbers and 6 GB as one-hot.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data``, a Panel of n series of unequal length, or (n, 1, 1024) float32 of "image"; ``target`` (n,)
        int64; ``part`` (n,); ``vocabulary``, the symbols by number; ``feature_names``; ``groups`` None;
        ``DESCR``. In "retrieval" a symbol of its own, number 256, stands between the two documents.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown task or part, and files that cannot be read.
    FileNotFoundError, ConnectionError
        Where a file is missing and cannot be downloaded, as those of "retrieval" never can be; says where to
        put it.

    References
    ----------
    Tay et al., arXiv 2011.04006, 2021.
    """
    checked_choice(task, "task", tuple(_PARTS))
    checked_part(part, _PARTS[task])
    if task == "image":
        return fetch_cifar10(
            grayscale=True,
            part=part,
            return_X_y=return_X_y,
            data_home=data_home,
            download_if_missing=download_if_missing,
        )
    store = Store(data_home, download_if_missing)
    read = {"listops": _read_listops, "text": _read_text, "retrieval": _read_retrieval}[task]
    vocabulary = {"listops": VOCABULARY, "text": _BYTES, "retrieval": (*_BYTES, "separator")}[task]
    sequences: list[Tokens] = []
    labels: list[int] = []
    parts: list[npt.NDArray[np.str_]] = []
    for which in _PARTS[task] if part == "all" else (part,):
        some, of_them = read(store, which)
        sequences += some
        labels += of_them
        parts.append(np.full(len(of_them), which))
    return result(
        "lra",
        token_panel(sequences, vocabulary, one_hot),
        np.array(labels, dtype=np.int64),
        return_X_y=return_X_y,
        feature_names=token_features(vocabulary, one_hot),
        parts=np.concatenate(parts),
        vocabulary=list(vocabulary),
    )


def _read_listops(store: Store, part: str) -> Sequences:
    """Expressions of the released files, or of ours, which are written where they are missing."""
    path = store.find("lra", f"listops-1000/{_LISTOPS_FILES[part]}")
    if path is None:
        path = store.place("lra", f"listops-generated/{_LISTOPS_FILES[part]}")
        if not path.exists():
            _write_listops(path, part)
    numbers = {symbol: number for number, symbol in enumerate(VOCABULARY)}
    sequences: list[Tokens] = []
    labels = []
    with path.open(encoding="ascii") as lines:
        if next(lines, "").split() != ["Source", "Target"]:
            raise ValueError(f"{path} must start with the columns Source and Target.")
        for line in lines:
            source, _, label = line.rpartition("\t")
            # The release writes every argument in parentheses, which say nothing more than the brackets do.
            words = source.replace("(", " ").replace(")", " ").split()
            try:
                sequences.append(np.array([numbers[word] for word in words], dtype=np.uint16))
                labels.append(int(label))
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {len(labels) + 2} is no expression with its value: {error}."
                ) from error
    return sequences, labels


def _write_listops(path: Path, part: str) -> None:
    seed = list(_LISTOPS_FILES).index(part)
    made = expressions(random.Random(seed), _LISTOPS_SIZES[part], 500, 2000, max_depth=10, max_args=10)
    lines = ["Source\tTarget", *(f"{text(symbols)}\t{value}" for symbols, value in made)]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text("\n".join(lines) + "\n", encoding="ascii")
    unfinished.replace(path)


def _read_text(store: Store, part: str) -> Sequences:
    """Film reviews as bytes; 1 is positive."""
    repacked = store.find("lra", "imdb50k.tsv.xz")
    if repacked is not None:
        return _read_repacked_text(repacked, part)
    path = store.get("imdb", "aclImdb_v1.tar.gz")

    def wanted(name: PurePosixPath) -> bool:
        return any(name.match(f"{part}/{sentiment}/*.txt") for sentiment in ("pos", "neg"))

    reviews = {
        (name.parent.name, name.name): _as_tokens(content, _TEXT_LENGTH)
        for name, content in members(path, wanted)
    }
    if not reviews:
        raise ValueError(f"{path} holds no reviews of part {part!r}.")
    keys = sorted(reviews)
    return [reviews[key] for key in keys], [int(sentiment == "pos") for sentiment, _ in keys]


def _read_repacked_text(path: Path, part: str) -> Sequences:
    """The same from one table: part, sentiment, name of the file, and text, parted by tabs."""
    sequences: list[Tokens] = []
    labels = []
    with lzma.open(path) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip(b"\n").split(b"\t", 3)
            if len(fields) != 4 or fields[1] not in (b"pos", b"neg", b"0", b"1"):
                raise ValueError(f"{path}, line {number} must have part, sentiment, name and text.")
            if fields[0].decode() == part:
                sequences.append(_as_tokens(fields[3], _TEXT_LENGTH))
                labels.append(int(fields[1] in (b"pos", b"1")))
    return sequences, labels


def _read_retrieval(store: Store, part: str) -> Sequences:
    """Pairs of papers as bytes, one after the other; 1 where one cites the other."""
    path = store.get("lra", f"tsv_data/{_RETRIEVAL_FILES[part]}")
    sequences: list[Tokens] = []
    labels = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip(b"\r\n").split(b"\t")
            if len(fields) != 5:
                raise ValueError(f"{path}, line {number} must have 5 fields, got {len(fields)}.")
            first, second = (_as_tokens(field, _DOCUMENT_LENGTH) for field in fields[3:])
            sequences.append(np.concatenate([first, np.array([_SEPARATOR], dtype=np.uint16), second]))
            labels.append(int(float(fields[0])))
    return sequences, labels


def _as_tokens(content: bytes, length: int) -> Tokens:
    return np.frombuffer(content[:length], dtype=np.uint8).astype(np.uint16)
