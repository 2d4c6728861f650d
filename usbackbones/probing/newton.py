"""Newton's method for penalized multinomial logistic regression, each step by conjugate gradients.

A step needs only products with the Hessian, at the price of a gradient each, and near the optimum the error is squared
from step to step, so that the solution is one to the last digits (Lin, Weng and Keerthi, JMLR 2008).
"""

import torch
from torch import Tensor

STEPS = 100
"""Maximum number of Newton steps; about ten are needed."""
PRODUCTS = 1000
"""Maximum number of products with the Hessian in one step; some tens are needed."""
GRADIENT = 1e-8
"""Largest entry of the gradient at the solution, where the shares of the rows sum to about one."""


def minimize(x: Tensor, y: Tensor, share: Tensor, ridge: Tensor, v: Tensor) -> Tensor:
    """The V [C, K] that minimizes sum_i share_i (cross-entropy of row i) + sum_ck ridge_k V_ck^2 / 2.

    Args:
        x: float64 [N, K], whose logits are x @ V.T.
        y: int64 [N], classes 0 .. C - 1.
        share: float64 [N], positive.
        ridge: float64 [K], not negative.
        v: float64 [C, K], where to begin.
    """
    rows = torch.arange(len(y))

    def at(v: Tensor) -> tuple[float, Tensor, Tensor]:
        """(objective, gradient [C, K], probabilities [N, C])."""
        logits = x @ v.T
        log_p = logits - logits.logsumexp(1, keepdim=True)
        p = log_p.exp()
        value = float(-(share @ log_p[rows, y]) + (v.square() @ ridge).sum() / 2)
        residual = p * share[:, None]
        residual[rows, y] -= share
        return value, residual.T @ x + v * ridge, p

    value, gradient, p = at(v)
    for _ in range(STEPS):
        if float(gradient.abs().max()) <= GRADIENT:
            break
        step = _newton_step(x, share, ridge, p, gradient)
        slope, t = float((gradient * step).sum()), 1.0
        while True:
            found = at(v + t * step)
            falls = found[0] <= value + 1e-4 * t * slope
            # Where the objective's last digits hide the fall, the slope shows it (Hager and Zhang, 2005).
            is_level = found[0] <= value + 1e-12 * abs(value) and float((found[1] * step).sum()) <= -slope / 2
            if falls or is_level or t < 1e-8:
                break
            t /= 2
        if t < 1e-8:
            break
        v, (value, gradient, p) = v + t * step, found
    return v


def _newton_step(x: Tensor, share: Tensor, ridge: Tensor, p: Tensor, gradient: Tensor) -> Tensor:
    """The D [C, K] with Hessian D = -gradient, the more precisely the smaller the gradient is."""
    weighted = p * share[:, None]

    def product(d: Tensor) -> Tensor:
        logits = x @ d.T
        return (weighted * (logits - (p * logits).sum(1, keepdim=True))).T @ x + d * ridge

    step, rest = torch.zeros_like(gradient), -gradient
    direction, square = rest.clone(), float(rest.square().sum())
    enough = square * min(0.01, square**0.5)
    for _ in range(PRODUCTS):
        bent = product(direction)
        curvature = float((direction * bent).sum())
        if curvature <= 0:  # the directions that move no probability, to which nothing is left but rounding
            break
        length = square / curvature
        step, rest = step + length * direction, rest - length * bent
        before, square = square, float(rest.square().sum())
        if square <= enough:
            break
        direction = rest + square / before * direction
    return step
