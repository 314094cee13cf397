"""Losses of a policy that is fitted to the answers itself, with no reward model between the two.

Each takes a sum over the steps of a segment, of log pi(a|s) or of log pi(a|s) - log pi_ref(a|s), for the left and for
the right segment of each question, and gives a loss in nats (`ipo`: squared) for each; nothing is averaged. As
everywhere, mu is the weight on the left segment, any number from 0 to 1, and to exchange the sides with it changes
nothing.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, arange
from torch.nn.functional import logsigmoid


def discounted(steps: Float[Tensor, "*n t"], mask: Float[Tensor, "*n t"], discount: float = 1.0) -> Float[Tensor, "*n"]:
    """sum_t discount^t steps_t of each segment (Hejna et al. 2024, equation 5).

    Args:
        steps: a number for each step.
        mask: 1 on the steps of a segment, 0 after its end; what stands there is not looked at.
        discount: gamma, above 0 and at most 1, counted from the segment's first step.
    """
    weights = discount ** arange(steps.shape[-1], device=steps.device, dtype=steps.dtype)
    return (steps.where(mask > 0, 0.0) * weights).sum(-1)


def dpo(
    left: Float[Tensor, "*n"],
    right: Float[Tensor, "*n"],
    mu: Float[Tensor, "*n"],
    beta: float,
    smoothing: float = 0.0,
) -> Float[Tensor, "*n"]:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7).

    -(m log s(d) + (1 - m) log s(-d)), d = beta (S_left - S_right), m = (1 - e) mu + e (1 - mu), where S is the
    log-ratio of the policy and its reference, s the sigmoid and e the label smoothing: conservative DPO (Mitchell
    2023). With e > 0 the loss has its least at |d| = log((1 - e) / e), however sure the answers are; without, a decided
    answer drives d to infinity.

    Args:
        left: sum of log pi - log pi_ref over the steps of the left segments.
        right: the same of the right segments.
        mu: weight on the left segment.
        beta: what a nat of log-ratio is worth, in log-odds of the answer.
        smoothing: e, the share of answers that are taken to be the wrong way round, at least 0 and below one half.
    """
    gap = beta * (left - right)
    believed = (1 - smoothing) * mu + smoothing * (1 - mu)
    return -(believed * logsigmoid(gap) + (1 - believed) * logsigmoid(-gap))


def ipo(
    left: Float[Tensor, "*n"], right: Float[Tensor, "*n"], mu: Float[Tensor, "*n"], tau: float
) -> Float[Tensor, "*n"]:
    """Identity preference optimisation (Azar et al. 2024, arXiv 2310.12036, equation 17).

    mu (h - 1 / (2 tau))^2 + (1 - mu) (h + 1 / (2 tau))^2 with h = S_left - S_right: the least is at
    h = (mu - 1/2) / tau, finite for any answer. S is the sum over the segment; some implementations take the mean.

    Args:
        left: sum of log pi - log pi_ref over the steps of the left segments.
        right: the same of the right segments.
        mu: weight on the left segment.
        tau: the regulariser's weight.
    """
    gap, goal = left - right, 1 / (2 * tau)
    return mu * (gap - goal).square() + (1 - mu) * (gap + goal).square()


def cpl(
    left: Float[Tensor, "*n"],
    right: Float[Tensor, "*n"],
    mu: Float[Tensor, "*n"],
    alpha: float,
    conservative: float = 1.0,
) -> Float[Tensor, "*n"]:
    """Contrastive preference learning (Hejna et al. 2024, arXiv 2310.13639, equation 5 and its conservative form).

    -(mu log s(A_left - k A_right) + (1 - mu) log s(A_right - k A_left)), A = alpha S, where k is the conservative
    weight, the paper's lambda. People are taken to answer by regret: alpha log pi is then the optimal advantage. With
    k = 1 the loss does not change where both sums change by the same; with k < 1 it falls where both rise, so that the
    policy stays likely to do what was shown, and its least is no longer at the optimal policy.

    Args:
        left: sum of gamma^t log pi over the steps of the left segments; of log pi - log pi_ref it is CPL-KL.
        right: the same of the right segments.
        mu: weight on the left segment.
        alpha: what a nat is worth, in log-odds of the answer.
        conservative: k, above 0 and at most 1.
    """
    left, right = alpha * left, alpha * right
    return -(mu * logsigmoid(left - conservative * right) + (1 - mu) * logsigmoid(right - conservative * left))
