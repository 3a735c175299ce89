"""How well chains mix, as numbers that compiled code may use; `pplemd.diagnosis` has the full report."""

import jax
from blackjax.diagnostics import effective_sample_size, potential_scale_reduction
from jax.scipy.special import ndtri
from jax.scipy.stats import rankdata
from jaxtyping import Array, Float


def bulk_ess(draws: Float[Array, "chain draw n"]) -> Float[Array, " n"]:
    """Effective sample size of the bulk of each element, over all chains: of rank-normalised, split chains.

    Source: Vehtari et al. 2021, arXiv:1903.08008.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # BlackJAX relies on both
        return effective_sample_size(_normal_scores(_split(draws))).reshape(draws.shape[2:])


def r_hat(draws: Float[Array, "chain draw n"]) -> Float[Array, " n"]:
    """Split R-hat of the ranks of each element: 1 where the chains agree.

    Source: Vehtari et al. 2021, arXiv:1903.08008; the bulk's half of it.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return potential_scale_reduction(_normal_scores(_split(draws))).reshape(draws.shape[2:])


def _split(draws: Array) -> Array:
    chains, count, size = draws.shape
    half = count // 2
    return draws[:, : 2 * half].reshape(2 * chains, half, size)


def _normal_scores(draws: Array) -> Array:
    chains, count, size = draws.shape
    total = chains * count
    ranks = rankdata(draws.reshape(total, size), axis=0)  # equal draws share the mean of their ranks
    return ndtri((ranks.astype(draws.dtype) - 0.375) / (total + 0.25)).reshape(draws.shape)
