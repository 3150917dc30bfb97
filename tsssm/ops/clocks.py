"""The public scan of runs of measurements, each with times of its own: arguments are checked here."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.operands import needs_gradient, plain, runs_compiled


def clock_scan(values: Tensor, gaps: Tensor, offsets: Tensor, rates: Tensor, *, last: bool = False) -> Tensor:
    r"""Scalar systems over runs of measurements, each with the gaps of its own run.

    .. math:: x_j = e^{-\lambda_i\,\delta_j}\, x_{j-1} + v_j,

    from rest at the first measurement of run i: exact for :math:`\dot x = -\lambda x + \sum_j \delta(t - t_j)
    v_j`. A run holds the measurements of one variable of one series, so that the work is in proportion to the
    measurements that were made, and not to samples times variables. With v = (1, z) the states tell how much
    was measured lately and, as a ratio, the recency-weighted mean of z.

    Parameters
    ----------
    values : Tensor (m, F), float32 or float64
        F inputs of each of m measurements, one run after another.
    gaps : Tensor (m,), dtype of ``values``
        Time since the previous measurement of the run, not negative; that of the first one does not count.
    offsets : Tensor (r + 1,), int64
        Run i holds the measurements ``offsets[i]`` to ``offsets[i + 1]``, at least one; from 0 to m.
    rates : Tensor (r, K), dtype of ``values``
        Rates of decay of the K systems of each run, 1 / time constant; not negative, 0 forgets nothing.
    last : bool
        Whether only the states after the last measurement of each run are returned.

    Returns
    -------
    Tensor (m, K, F), or (r, K, F) with ``last``

    Raises
    ------
    ValueError
        If shapes or dtypes disagree, or offsets do not increase from 0 to m.

    Notes
    -----
    Compiled on a CPU; elsewhere, and for a gradient of the gaps, PyTorch's operations over chunks of all
    measurements.
    """
    runs = len(offsets) - 1
    if values.ndim != 2 or values.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"values must be (m, F) in float32 or float64; got {values.dtype} {tuple(values.shape)}."
        )
    if gaps.shape != values.shape[:1] or gaps.dtype != values.dtype:
        raise ValueError(
            f"gaps must be ({len(values)},) of {values.dtype}; got {gaps.dtype} {tuple(gaps.shape)}."
        )
    if rates.ndim != 2 or len(rates) != runs or rates.dtype != values.dtype:
        raise ValueError(
            f"rates must be ({runs}, K) of {values.dtype}; got {rates.dtype} {tuple(rates.shape)}."
        )
    if (
        offsets.ndim != 1
        or offsets.dtype != torch.int64
        or runs < 0
        or int(offsets[0]) != 0
        or int(offsets[-1]) != len(values)
        or bool((offsets.diff() <= 0).any())
    ):
        raise ValueError(
            f"offsets must be int64 and increase from 0 to {len(values)}, with a measurement in every run; "
            f"got {offsets.dtype} {tuple(offsets.shape)}."
        )
    if values.device.type != "cpu" or not runs_compiled(values, gaps):
        states = plain().clock_scan(values, gaps, offsets, rates)
        return states[offsets[1:] - 1] if last else states
    # Numba is imported, and its kernels are loaded, when the first CPU tensor arrives.
    from tsssm.ops.autograd import clocks as compiled
    from tsssm.ops.cpu import clocks as cpu

    if last and not needs_gradient(values, rates):
        return cpu.clock_scan(values, gaps, offsets, rates, last=True)
    states = compiled.ClockScan.apply(values, gaps, offsets, rates)
    return states[offsets[1:] - 1] if last else states
