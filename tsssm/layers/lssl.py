"""LSSL: a dense HiPPO system for each channel, fixed or trained (Gu et al., arXiv 2110.13985)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsssm import hippo
from tsssm.discretize import discretize_dense, gbt_alpha
from tsssm.layers._dense import dense_scan
from tsssm.layers._dissipative import CEILINGS, dissipative
from tsssm.layers.base import SSMLayer, check_sizes, check_steps
from tsssm.ops import causal_conv, dplr_scan, krylov, reversed_gaps, tridiagonal_scan
from tsssm.ops.paths import prefers_convolution
from tsssm.ops.reference.tridiagonal import dense_tridiagonal


class LSSL(SSMLayer):
    r"""Linear state-space layer: M readouts of a system of N states for each channel.

    .. math:: \dot x = A x + B u, \qquad y = C x + D u

    (2110.13985, eq. 1 and 2), discretised with the step :math:`s = \Delta\,\delta_k` of each sample by the
    generalised bilinear transform (eq. 3), or by zero-order hold:

    .. math:: (I - \alpha s A)\,x_k = (I + (1 - \alpha) s A)\,x_{k-1} + s B u_k .

    The sample u_k stands for the input at the time :math:`t_{k-1} + \alpha s`; the rule is then of order 2
    for :math:`\alpha = 1/2` and of order 1 otherwise. A is a HiPPO matrix, fixed (with all of ``train_A``,
    ``train_B`` and ``train_dt`` off this is LSSL-f), or trained in the class of low recurrence width
    (section 4.2) from the HiPPO matrix on:

    .. math:: A = P\,(D_A + T^{-1})\,Q

    with P, D_A and Q diagonal and T tridiagonal. Three views are one function: the continuous system; the
    recurrence, in O(N) a step by a tridiagonal solve (trained A) or the Woodbury identity (fixed A); and,
    on a regular grid from rest, the convolution with the Krylov kernel :math:`C \bar A^i \bar B`.

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`.
    measure : {"legs", "legt", "lagt", "fourier"}
        HiPPO measure of A and B.
    method : {"bilinear", "backward-euler", "euler", "zoh"} or float in [0, 1]
        Discretisation; a number is :math:`\alpha`. No step of a dense A by zero-order hold takes O(N): with
        "zoh" and gaps that differ, each distinct step costs a matrix exponential in O(N^3) and each sample
        O(N^2). Euler steps of a trained A take the same way, because at :math:`\alpha = 0` the pivots of
        the tridiagonal solve may vanish. Over a long gap modes keep the share :math:`(1 - \alpha) / \alpha`
        of what they hold: all with "bilinear", the paper's rule, and a third with 0.75, that of a `Backbone`.
    train_A, train_B, train_dt : bool
        Whether A, B and the timescales Delta are trained.
    shared : bool
        Whether all channels have the same trained A and B, or one each.
    n_readouts : int
        M. With M = 1 the result is y itself; with M > 1 the M d_model outputs of each sample go through GELU
        and a linear map to d_model, as in the paper (section 3).
    dt_min, dt_max : float
        The timescales Delta start spread geometrically from one to the other, in 1 / (grid step).

    Raises
    ------
    ValueError
        If an argument is none of those listed.

    Notes
    -----
    Trained numbers: A 6 N - 2 and B N for each channel, or once if ``shared``; Delta 1 a channel; C
    (directions, M, d_model, N) and D (M, d_model); with M > 1, (M d_model + 1) d_model of the map.

    Coordinates of state, B and C are those of HiPPO where A is fixed, and where it is trained those of the
    class, ``hippo.low_recurrence(measure, d_state).V``: the same but for "fourier", of which the class leaves
    out the one state that nothing reaches, so that N is the next odd number below.

    P and Q are trained by their logarithms, and D_A and T stay within bounds, given in `_dissipative`, that
    the HiPPO matrices keep: no state grows by itself in the norm :math:`x^\top Q P^{-1} x`, in continuous
    time and, for :math:`\alpha \ge 1/2` and zero-order hold, in any sequence of steps; and, for
    :math:`\alpha > 0`, no pivot of the tridiagonal solve vanishes. With :math:`\alpha < 1/2` states may
    grow, as for any explicit rule.

    A system that is fixed stays in float64 and complex128 whatever the module is converted to, and Krylov
    vectors are always computed in float64, because they are powers of a non-normal matrix. Everything else
    has the precision of C, float32 at least, and y has the dtype of u.

    The authors' standalone code has LegT with A, B and Delta fixed, on a regular grid alone, computes
    kernels in float32 and keeps the first one; Delta is drawn at random. Here each sample has its own step,
    calls take and return the state, and Delta is spread evenly, so that few channels cover the range. C
    starts standard normal, as theirs does: the state of a HiPPO system holds coefficients of the input that
    get smaller with their order, so that y has about the size of u without a factor of :math:`N^{-1/2}`.
    """

    B: Tensor
    log_dt: Tensor
    A_log_P: Tensor
    A_D: Tensor
    A_log_Q: Tensor
    A_T: Tensor
    A: Tensor
    eigenvalues: Tensor
    low_rank: Tensor
    basis: Tensor
    weight: Tensor
    mix: nn.Linear | None

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        measure: str = "legs",
        method: str | float = "bilinear",
        train_A: bool = True,
        train_B: bool = True,
        train_dt: bool = True,
        shared: bool = False,
        n_readouts: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        super().__init__(d_model, d_state, bidirectional=bidirectional)
        if method == "foh":
            raise ValueError("method must be 'zoh' or a generalised bilinear transform; got 'foh'.")
        self.alpha = gbt_alpha(method)
        # Steps for which there is no O(N) solve, or none that is safe.
        self.dense_steps = self.alpha is None or (self.alpha == 0 and train_A)
        check_sizes(n_readouts=n_readouts)
        check_steps(dt_min, dt_max)
        self.measure, self.method = measure, method
        self.train_A, self.train_B, self.train_dt, self.shared = train_A, train_B, train_dt, shared
        rows = 1 if shared else self.d_model
        B = self._set_class(rows) if train_A else self._set_hippo()
        self._set("B", np.tile(B, (rows, 1)) if train_B else B, train_B)
        self._set("log_dt", np.linspace(math.log(dt_min), math.log(dt_max), self.d_model), train_dt)
        trained = {"A_log_P": train_A, "A_D": train_A, "A_log_Q": train_A, "A_T": train_A, "B": train_B}
        self.system_names = tuple(name for name, on in (trained | {"log_dt": train_dt}).items() if on)
        self.n_readouts, self.n_modes = int(n_readouts), len(B)
        directions = 2 if bidirectional else 1
        self.C = nn.Parameter(torch.randn(directions, self.n_readouts, self.d_model, self.n_modes))
        self.D = nn.Parameter(torch.randn(self.n_readouts, self.d_model))
        self.mix = nn.Linear(self.n_readouts * self.d_model, self.d_model) if n_readouts > 1 else None

    def _set_class(self, rows: int) -> np.ndarray:
        """Make the parameters of a trained A; returns B."""
        # The class of an even "fourier" would hold the unused state, which keeps none of the bounds.
        unused = self.measure == "fourier" and self.d_state % 2 == 0
        form = hippo.low_recurrence(self.measure, self.d_state - unused)
        self._set("A_log_P", np.tile(np.log(form.P), (rows, 1)), True)
        self._set("A_D", np.tile(form.D, (rows, 1)), True)
        self._set("A_log_Q", np.tile(np.log(form.Q), (rows, 1)), True)
        self._set("A_T", np.tile(form.T[:, None], (1, rows, 1)), True)
        return form.B

    def _set_hippo(self) -> np.ndarray:
        """Make the buffers of a fixed A; returns B."""
        A, B = hippo.transition(self.measure, self.d_state)
        form = hippo.nplr(self.measure, self.d_state)
        half = (self.d_state + 1) // 2
        self._set("A", A, False)
        self._set("eigenvalues", form.Lambda[:half], False)
        self._set("low_rank", form.P[:, :half], False)
        self._set("basis", form.V[:, :half], False)
        # A pair counts twice, the real eigenvalue of an odd system once.
        self._set("weight", np.where(np.arange(half) < self.d_state // 2, 2.0, 1.0), False)
        return B

    def _set(self, name: str, value: np.ndarray, trained: bool) -> None:
        if trained:
            self.register_parameter(name, nn.Parameter(torch.tensor(value, dtype=torch.get_default_dtype())))
        else:
            self.register_buffer(name, torch.tensor(value))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LSSL:
        # A conversion moves the fixed part of the system to another device but leaves its precision alone;
        # ``to(dtype)`` would also drop the imaginary parts.
        system, self._buffers = self._buffers, {}
        super()._apply(fn, recurse)
        device = self.C.device
        self._buffers = {name: value.to(device) for name, value in system.items() if value is not None}
        return self

    def initial_state(self, batch: int) -> Tensor:
        """The zero state (batch, d_model, N)."""
        return self.C.new_zeros(batch, self.d_model, self.n_modes)

    def transition(self) -> tuple[Tensor, Tensor]:
        """The continuous system in float64: A (d_model or 1, N, N) and B (d_model or 1, N)."""
        B = self.B.double().reshape(-1, self.n_modes)
        if not self.train_A:
            return self.A[None], B
        P, D, Q, T = self._factors(torch.float64)
        inner = torch.diag_embed(D) + torch.linalg.inv(dense_tridiagonal(T))
        return P[..., None] * inner * Q[..., None, :], B

    def poles(self) -> Tensor:
        with torch.no_grad():
            return torch.exp(self.log_dt.double())[:, None] * torch.linalg.eigvals(self.transition()[0])

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """P, D_A, Q (d_model or 1, N) and the diagonals T (3, d_model or 1, N) of a trained A."""
        D, T = dissipative(self.A_D.to(dtype), self.A_T.to(dtype), CEILINGS[self.measure])
        return torch.exp(self.A_log_P.to(dtype)), D, torch.exp(self.A_log_Q.to(dtype)), T

    def _run(
        self, u: Tensor, dt: Tensor | None, state: Tensor | None, need_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        shape = (u.shape[0], self.d_model, self.n_modes)
        if state is not None and state.shape != shape:
            raise ValueError(f"state must be {shape}; got {tuple(state.shape)}.")
        inputs = u.to(torch.promote_types(self.C.dtype, torch.float32))
        C = self.C.to(inputs.dtype)
        # Autocast would round the kernel to half precision, which only inputs and outputs may have.
        with torch.autocast(u.device.type, enabled=False):
            if dt is None and state is None and self._convolves(u):
                y, x = self._convolution(inputs, C, need_state)
            elif self.alpha is None or self.dense_steps:
                y, x = self._dense(inputs, dt, state, C)
            elif self.train_A:
                y, x = self._tridiagonal(inputs, dt, state, C, self.alpha)
            else:
                y, x = self._low_rank(inputs, dt, state, C, self.alpha)
            y = y + self.D.to(y.dtype)[:, None] * inputs[:, None]
            return self._mixed(y.transpose(1, 2).flatten(2)).to(u.dtype), x

    def _mixed(self, y: Tensor) -> Tensor:
        """The output (batch, L, d_model) of the readouts (batch, L, M d_model)."""
        if self.mix is None:
            return y
        return F.linear(F.gelu(y), self.mix.weight.to(y.dtype), self.mix.bias.to(y.dtype))

    def directions(self) -> tuple[LSSL, LSSL]:
        ways = super().directions()
        for way in ways:
            # Each gives all its readouts: they are mixed when both are there.
            way.mix = None
        return ways

    def joined(self, forward: Tensor, backward: Tensor) -> Tensor:
        return self._mixed(forward + backward)

    def _convolves(self, u: Tensor) -> bool:
        """Whether a regular grid, from rest, is convolved and not scanned; dense steps always are."""
        batch, length, _ = u.shape
        return self.dense_steps or prefers_convolution("dense", batch, length, self.n_modes, u.device)

    def _convolution(self, u: Tensor, C: Tensor, need_state: bool) -> tuple[Tensor, Tensor | None]:
        A, B = self.transition()
        system = discretize_dense(A, B, torch.exp(self.log_dt.double()), self.method)
        vectors = krylov(system.A_bar, system.B_bar, u.shape[1]).to(u.dtype)
        kernel = torch.einsum("kmhn,hnl->kmlh", C, vectors)
        y = causal_conv(u, kernel[0])
        if self.bidirectional:
            y = y + causal_conv(u.flip(1), kernel[1]).flip(2)
        return y, torch.einsum("blh,hnl->bhn", u.flip(1), vectors) if need_state else None

    def _dense(self, u: Tensor, dt: Tensor | None, x: Tensor | None, C: Tensor) -> tuple[Tensor, Tensor]:
        system, step = self.transition(), torch.exp(self.log_dt.double())
        x = None if x is None else x.to(u.dtype)
        y, x = dense_scan(u, *system, C[0], step, dt, x, self.method)
        if self.bidirectional:
            back = None if dt is None else reversed_gaps(dt).flip(1)
            y = y + dense_scan(u.flip(1), *system, C[1], step, back, None, self.method)[0].flip(2)
        return y, x

    def _tridiagonal(
        self, u: Tensor, dt: Tensor | None, x: Tensor | None, C: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor]:
        # In the coordinates z = Q x the matrix is P Q (D + T^-1).
        P, D, Q, T = self._factors(u.dtype)
        B = (Q * self.B.to(u.dtype)).expand_as(D)
        z = None if x is None else Q * x.to(u.dtype)
        step = torch.exp(self.log_dt.to(u.dtype))
        y, z = tridiagonal_scan(u, T, D, P * Q, B, C / Q, step, dt, z, alpha=alpha)
        return y, z / Q

    def _low_rank(
        self, u: Tensor, dt: Tensor | None, x: Tensor | None, C: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor]:
        # Unitary coordinates in which A is diagonal plus low rank, one of each conjugate pair.
        complex_type = torch.promote_types(u.dtype, torch.complex64)
        basis, low_rank = self.basis.to(complex_type), self.low_rank[:, None].to(complex_type)
        weight = self.weight.to(u.dtype)
        B = (self.B.to(self.basis.dtype).reshape(-1, self.n_modes) @ self.basis.conj()).to(complex_type)
        Lambda = self.eigenvalues.to(complex_type).expand_as(B)
        low_rank = low_rank.expand(-1, *B.shape)
        x = None if x is None else x.to(complex_type) @ basis.conj()
        readouts = C.to(complex_type) @ (weight * basis)
        step = torch.exp(self.log_dt.to(u.dtype))
        y, x = dplr_scan(u, Lambda, low_rank, weight * low_rank, B, readouts, step, dt, x, alpha=alpha)
        return y, (x @ (weight * basis).T).real
