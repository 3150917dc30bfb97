"""ListOps: the value of a nested expression on digits, read symbol by symbol."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from tsssm.datasets._bunch import checked_count, generator, result
from tsssm.datasets._tokens import Tokens, token_features, token_panel

VOCABULARY = (*"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
_OPERATORS = 10  # number of the first of the four
_CLOSE = 14
_OPERATOR_SHARE = 0.25  # of the arguments, as in both papers
_ATTEMPTS = 100_000

Expression = tuple[list[int], int]  # symbols and value


def make_listops(
    n_samples: int = 100,
    *,
    min_length: int = 20,
    max_length: int = 200,
    max_depth: int = 10,
    max_args: int = 10,
    one_hot: bool = True,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make nested list operations and their values.

    An expression such as ``[MAX 2 9 [MIN 4 7 ] 0 ]`` has operators with 2 to ``max_args`` arguments, each a
    digit with probability 3/4 and else an expression in turn: the smallest and the largest argument, the
    median (of an even number of arguments the mean of the middle two, rounded down) and the sum modulo 10.
    Long Range Arena takes lengths of 500 to 2,000 symbols.

    Parameters
    ----------
    n_samples : int, default=100
        Number of expressions.
    min_length, max_length : int, default=20, 200
        Bounds of the number of symbols, both allowed; other expressions are discarded.
    max_depth : int, default=10
        Largest number of operators inside one another.
    max_args : int, default=10
        Largest number of arguments.
    one_hot : bool, default=True
        A channel for each of the 15 symbols; otherwise one channel with their numbers.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : None, int, Generator or RandomState, default=None
        Seed.

    Returns
    -------
    Bunch
        ``data``, a Panel of n series of unequal length; ``target`` (n,) int64, the value from 0 to 9;
        ``expressions``, the n texts; ``vocabulary``; ``feature_names``; ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For arguments out of their range, and lengths at which no expressions are found.

    References
    ----------
    Nangia and Bowman, arXiv 1804.06028, 2018; Tay et al., arXiv 2011.04006, 2021, section 2.2.1.
    """
    checked_count(n_samples, "n_samples")
    checked_count(max_depth, "max_depth")
    checked_count(max_args, "max_args", 2)
    checked_count(min_length, "min_length", 4)
    checked_count(max_length, "max_length", min_length)
    seed = int(generator(random_state).integers(2**63))
    made = expressions(random.Random(seed), n_samples, min_length, max_length, max_depth, max_args)
    sequences: list[Tokens] = [np.array(symbols, dtype=np.uint16) for symbols, _ in made]
    return result(
        "listops",
        token_panel(sequences, VOCABULARY, one_hot),
        np.array([value for _, value in made], dtype=np.int64),
        return_X_y=return_X_y,
        feature_names=token_features(VOCABULARY, one_hot),
        expressions=[text(symbols) for symbols, _ in made],
        vocabulary=list(VOCABULARY),
    )


def text(symbols: list[int]) -> str:
    """Expression as text, symbols parted by spaces."""
    return " ".join(VOCABULARY[symbol] for symbol in symbols)


def expressions(
    rng: random.Random, n: int, min_length: int, max_length: int, max_depth: int, max_args: int
) -> list[Expression]:
    """Draw n expressions with a number of symbols within the bounds.

    Raises
    ------
    ValueError
        Where an expression is not found in 100,000 attempts.
    """
    made = []
    for _ in range(n):
        for _ in range(_ATTEMPTS):
            symbols: list[int] = []
            value = _draw(rng, symbols, max_length, max_depth, max_args)
            if value is not None and len(symbols) >= min_length:
                made.append((symbols, value))
                break
        else:
            raise ValueError(
                f"no expression of {min_length} to {max_length} symbols was found with max_depth={max_depth} "
                f"and max_args={max_args}; widen the bounds."
            )
    return made


def _draw(rng: random.Random, symbols: list[int], room: int, depth: int, max_args: int) -> int | None:
    """Append an operator with its arguments; return its value, or None once it takes more than ``room``."""
    operator = rng.randrange(4)
    symbols.append(_OPERATORS + operator)
    values = []
    for _ in range(rng.randint(2, max_args)):
        if depth > 1 and rng.random() < _OPERATOR_SHARE:
            value = _draw(rng, symbols, room, depth - 1, max_args)
            if value is None:
                return None
        else:
            value = rng.randrange(10)
            symbols.append(value)
        if len(symbols) >= room:  # the bracket that closes would be one too many
            return None
        values.append(value)
    symbols.append(_CLOSE)
    if operator == 0:
        return min(values)
    if operator == 1:
        return max(values)
    if operator == 2:
        values.sort()
        return (values[(len(values) - 1) // 2] + values[len(values) // 2]) // 2
    return sum(values) % 10
