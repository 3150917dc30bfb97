"""Liquid-S4: a diagonal system whose transition depends on its input (Hasani et al., arXiv 2209.12951)."""

from __future__ import annotations

from tsssm.discretize import gbt_alpha
from tsssm.layers.s4d import S4D


class LiquidS4(S4D):
    r"""Liquid state-space layer.

    .. math::
        \dot x = (A + B u)\,x + B u \quad\to\quad
        x_k = \Pi(\bar A_k + \bar B_k u_k)\,x_{k-1} + \bar B_k u_k, \qquad y = 2\,\mathrm{Re}(C x) + D u,

    with B acting element by element (2209.12951, eqs. 3 and 6), and :math:`\Pi(f) = f / \max(1, |f|)`.

    Parameters
    ----------
    d_model, d_state, bidirectional, init, dt_min, dt_max
        See `S4D`.
    method : {"zoh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation. First-order hold spreads an input over two coefficients, for which the liquid
        transition has no meaning.
    kernel : {"exact"}
        The recurrence itself, with every order of input correlation, by the scan.

    Notes
    -----
    The projection :math:`\Pi` to the unit disc is ours. Without it a large input makes the transition
    expand and the state overflows; with it :math:`|x_k| \le |x_{k-1}| + |\bar B_k u_k|`, so that the
    output is finite for every input whose products are. Below the bound nothing is changed, and a sample
    of zero gap still leaves the state alone.

    The authors' code replaces the recurrence by a truncated sum of kernels, flips time in one of them so
    that outputs see the future, and leaves the liquid terms out of its step. Here `step` and the whole
    sequence are the same recurrence, and it is causal.
    """

    liquid = True

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        init: str = "legs",
        method: str | float = "zoh",
        kernel: str = "exact",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        if gbt_alpha(method) is None and method != "zoh":
            raise ValueError(f"method must be 'zoh' or a generalised bilinear transform; got {method!r}.")
        if kernel != "exact":
            raise ValueError(f"kernel must be 'exact'; got {kernel!r}.")
        super().__init__(
            d_model,
            d_state,
            bidirectional=bidirectional,
            init=init,
            method=method,
            dt_min=dt_min,
            dt_max=dt_max,
        )
