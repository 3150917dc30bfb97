"""Liquid-S4: a state-space model whose transition depends on its input (Hasani et al., arXiv 2209.12951)."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm import hippo
from tsssm.discretize import gbt_alpha
from tsssm.layers.modal import ModalLayer, low_rank_parameter, low_rank_system
from tsssm.ops import LiquidState, ScanState, diagonal_scan, liquid_dplr_scan, liquid_scan
from tsssm.ops.liquid import check_liquid_kernel, liquid_state_shape

#: Forms of the state matrix, with the default discretisation of each.
SYSTEMS = {"diagonal": "zoh", "dplr": "bilinear"}


class LiquidS4(ModalLayer):
    r"""Liquid state-space layer, one system per channel, with N/2 conjugate pairs of modes.

    .. math::
        \dot x = (A + B u)\,x + B u \quad\to\quad
        x_k = \bar A_k x_{k-1} + w_k \circ x_{k-1} + w_k, \qquad w_k = \bar B_k u_k, \qquad
        y = 2\,\mathrm{Re}(C x) + D u,

    with B acting element by element (2209.12951, eqs. 3 and 6), in the basis in which A is diagonal, or
    diagonal plus low-rank. Unrolled, y is a sum over orders q of correlation
    :math:`u_k u_{k-1} \cdots` of q inputs. A kernel says how many of them count, and with what weights:

    ======== ======= ======================================================================================
    kernel   order   what is computed
    ======== ======= ======================================================================================
    "exact"  None    the recurrence itself: every order, and any samples, not neighbours alone
    "exact"  p       its orders up to p, through a chain of p states,
                     :math:`x^{(q)}_k = \bar A_k x^{(q)}_{k-1} + w_k \circ x^{(q-1)}_{k-1}`
    "kb"     p       the paper's K-B kernel: :math:`C \bar A^i \bar B^q` on correlations of q neighbours
    "pb"     p       the paper's P-B kernel: :math:`C \bar B^q` on correlations of q >= 2 neighbours
    ======== ======= ======================================================================================

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`; ``d_state`` must be even.
    init : str
        Initial A and B: "legs", "lin" or "inv" as in `S4D` for a diagonal system; a measure of
        `tsssm.hippo` for a diagonal plus low-rank one.
    method : {"zoh", "bilinear", "backward-euler", "euler"} or float in [0, 1], optional
        Discretisation; a diagonal plus low-rank system has no "zoh". By default "zoh", respectively
        "bilinear". First-order hold spreads an input over two coefficients, for which the liquid transition
        has no meaning.
    kernel : {"exact", "kb", "pb"}
        See above.
    order : int, optional
        Highest order p of correlation, at least 2. None is every order for the kernel "exact", and 2 for the
        others.
    system : {"diagonal", "dplr"}
        A = diag(Lambda), or A = diag(Lambda) - P P^* with the conjugate pairs of Lambda and P.
    real_part : {"exp", "softplus"}
        Re Lambda = -exp(a), or -log(1 + exp(a)).
    strength : float
        Of the kernel "exact": how much an input of size one moves the transition at the start. Over a
        diagonal system, the share of the decay of each mode that it takes away; over a "dplr" one, a factor
        of B.
    dt_min, dt_max : float
        The timescales Delta start log-uniformly distributed between these, in 1 / (grid step).

    Raises
    ------
    ValueError
        If an argument is not one of those above.

    Notes
    -----
    u and y are (batch, L, d_model). The state is a `ScanState` for the recurrence over a diagonal system,
    else a `LiquidState`: `liquid_scan` has its shapes and the formulas, with the coefficients of each step.

    Trained: Lambda, B, Delta and P (system group), C and D. Numbers per channel: N each for Lambda, B and C
    (twice for C when bidirectional), one for Delta and one for D; over a "dplr" system also N for each rank
    of P. The rank is 2 for "legt", else 1. The measures "legt", "lagt" and "fourier", whose normal part does
    not decay, start with Re Lambda = -0.001 in its place.

    *Scale.* A linear system is the same for :math:`B \gamma` and :math:`C / \gamma`; a liquid one is not,
    because its B multiplies the state as well. The usual B, about 1 beside a decay of 1/2, would make modes
    grow wherever the input stays above 1/2 for a while: on random walks of unit variance states of "lin"
    reach :math:`10^4` within 200 steps. The equations above therefore hold with :math:`B \gamma` and
    :math:`C / \gamma` in place of the parameters B and C, where the fixed ``scale``
    :math:`\gamma_n = \text{strength} \cdot (-\mathrm{Re} \lambda_n) / |B_n|` is that of the initial values
    ("dplr": :math:`\gamma = \text{strength}`, and 1 for the kernels "kb" and "pb", whose coefficients are
    the paper's). The response to small inputs is that of `S4D`, and so is the way in which B and C train.

    *Phases.* The product of B u and x mode by mode depends on the phases of the eigenvectors, which do not
    affect the linear system: a mode turned by :math:`\varphi` has :math:`B e^{i \varphi}` and
    :math:`C e^{-i \varphi}`, and another liquid part. They start where B is real and positive, as `hippo`
    gives it: an input that is positive slows the decay of a mode, a negative one speeds it up, and neither
    changes its frequency until B has learned a phase.

    *Bounds.* A large input makes the transition expand, and the recurrence overflow. Over a diagonal
    system the input that acts on the transition of a mode is clipped to
    :math:`\pm(-\mathrm{Re}\lambda) / |B \gamma|`, at the start :math:`\pm 1 / \text{strength}`, which takes
    away all of its decay. By zero-order hold that keeps :math:`|\bar A_k + \bar B_k \tilde u_k| \le 1`, and
    by a transform the sum is projected there. Over a "dplr" one :math:`\bar A_k x + w_k \circ x` is shortened
    to the length of x. So :math:`\lVert x_k \rVert \le \lVert x_{k-1} \rVert + \lVert w_k \rVert`, and the
    output is finite for every input whose products are. In the other forms, the factors of a correlation
    beside the newest are bounded.

    Below the bounds nothing is changed, and inputs of unit variance stay below them: of normal ones none of a
    million pairs of a sample and a mode is clipped at the start, on none of 24 UCR sets more than two in a
    thousand, and over a "dplr" system with "legs" two in a thousand. (The other measures have modes without
    decay, which any input makes grow in one of its signs: there it is up to 8 in a hundred.)

    Different from the paper and the authors' code:

    - *The recurrence itself*, with the samples of any distance in its products, is the kernel "exact". The
      code has none: it has products of neighbours, by default of all pairs of the last 6 or 7 samples, and
      reversed in time, so that outputs see the future.
    - *Kernels as in the paper.* The code's P-B is :math:`(\sum_n C_n \bar B_n)(\sum_n \bar B_n)` times
      these products, where the paper has :math:`\sum_n C_n \bar B_n^2`; its K-B differs by 31 to 43 percent
      from the convolution that it means. Its :math:`\bar B` leaves out the low-rank part, and the liquid term
      passes no gradient to A, B, C and Delta. So the paper's figures are those of another model: compare on
      data.
    - *One model in every view.* Their step leaves the liquid terms out. Here `step` and the whole sequence
      are the same recurrence, for every kernel, with the last inputs in the state where it needs them.
    - *A step for every sample*, so that :math:`\bar B^q` is a product of coefficients of q samples. One of
      zero gap leaves the state unchanged and is no neighbour of the others.
    - Each order is summed up to p with weight one, and P is tied (A = Lambda - P P^*), which keeps A stable.

    Over a "dplr" system no device but the CPU has a kernel: elsewhere PyTorch's operations run over chunks of
    time, and for all orders by Newton's method, which is a slow path (`liquid_dplr_scan`).
    """

    scale: Tensor

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        init: str = "legs",
        method: str | float | None = None,
        kernel: str = "exact",
        order: int | None = None,
        system: str = "diagonal",
        real_part: str = "exp",
        strength: float = 0.125,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        if system not in SYSTEMS:
            raise ValueError(f"system must be one of {', '.join(map(repr, SYSTEMS))}; got {system!r}.")
        method = SYSTEMS[system] if method is None else method
        if gbt_alpha(method) is None and (system == "dplr" or method != "zoh"):
            hold = "" if system == "dplr" else "'zoh' or "
            raise ValueError(
                f"method must be {hold}a generalised bilinear transform for system {system!r}; "
                f"got {method!r}."
            )
        if order is None and kernel in ("kb", "pb"):
            order = 2
        check_liquid_kernel(kernel, order, full=True)
        _check_strength(strength)
        low_rank = None
        if system == "diagonal":
            eigenvalues, input_vector = hippo.diagonal(init, d_state)
        else:
            if init not in hippo.MEASURES:
                known = ", ".join(map(repr, hippo.MEASURES))
                raise ValueError(f"init must be one of {known} for system 'dplr'; got {init!r}.")
            eigenvalues, input_vector, low_rank = low_rank_system(init, d_state)
        super().__init__(
            d_model,
            d_state,
            bidirectional=bidirectional,
            eigenvalues=eigenvalues,
            input_vector=input_vector,
            real_part=real_part,
            dt_min=dt_min,
            dt_max=dt_max,
        )
        self.method = method
        self.kernel = kernel
        self.order = order
        self.system = system
        self.init = init
        self.strength = float(strength)
        self.register_buffer("scale", self._initial_scale(eigenvalues, input_vector))
        self.state_type = ScanState if system == "diagonal" and order is None else LiquidState
        if low_rank is not None:
            self.P = low_rank_parameter(low_rank, d_model)
            self.system_names = (*self.system_names, "P")

    def _initial_scale(self, eigenvalues: NDArray[Any], input_vector: NDArray[Any]) -> Tensor:
        """The factors gamma (N/2,) for the initial diagonal of A and the initial B."""
        scale = np.ones(len(input_vector))
        if self.kernel == "exact":
            # Over a "dplr" system of HiPPO-LegS, B of a mode never exceeds its decay: B <= 1/2 + B^2 / 2.
            share = 1 if self.system == "dplr" else -eigenvalues.real / np.abs(input_vector)
            scale = self.strength * share * scale
        return torch.as_tensor(scale, dtype=self.D.dtype)

    def input_vector(self) -> Tensor:
        return super().input_vector() * self.scale

    def readout(self) -> Tensor:
        return super().readout() / self.scale

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # Layers of versions before there was a scale had none in their equations.
        state_dict.setdefault(f"{prefix}scale", torch.ones_like(self.scale))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def initial_state(self, batch: int) -> ScanState | LiquidState:
        zero = self.zero_modes(batch)
        if self.state_type is ScanState:
            return ScanState(zero, self.D.new_zeros(batch, self.d_model))
        states, past = liquid_state_shape(self.kernel, self.order)
        return LiquidState(*(zero.new_zeros(batch, count, *zero.shape[1:]) for count in (states, past)))

    def _run(
        self, u: Tensor, dt: Tensor | None, state: Any, need_state: bool
    ) -> tuple[Tensor, ScanState | LiquidState]:
        Lambda, B, C = self.eigenvalues(), self.input_vector(), self.readout()
        sequence: tuple[Any, ...] = (B, C, torch.exp(self.log_dt), dt, state)
        D, kernel, order, method = self.D[None], self.kernel, self.order, self.method
        end: ScanState | LiquidState
        if self.system == "dplr":
            P, alpha = torch.view_as_complex(self.P), gbt_alpha(method)
            assert alpha is not None  # by the constructor
            # 2 P, because a stored mode counts for its conjugate too.
            y, end = liquid_dplr_scan(
                u, Lambda, P, 2 * P, *sequence, D=D, alpha=alpha, kernel=kernel, order=order
            )
        elif order is None:
            y, end = diagonal_scan(u, Lambda, *sequence, D=D, method=method, liquid=True)
        else:
            y, end = liquid_scan(u, Lambda, *sequence, D=D, method=method, kernel=kernel, order=order)
        return y.squeeze(1), end


def _check_strength(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"strength must be a positive finite number; got {value!r}.")
