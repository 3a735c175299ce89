"""Dirichlet distributions in the logits of their sticks, which hold where the shares themselves round to 0 or to 1.

Share i is z_i (1 - z_1) ... (1 - z_i-1), z_i = sigmoid(u_i - log(n - i)) for i = 1 ... n - 1: NumPyro's and Stan's
coordinates (Stan Reference Manual, "Unit simplex"). The sticks are independent, z_i ~ Beta(a_i, a_i+1 + ... + a_n).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar


def draw(
    key: Key[Array, ""], concentration: Float[Array, "... shares"], shape: tuple[int, ...]
) -> Float[Array, "... sticks"]:
    """Draw coordinates of this shape; a Beta's logit is a difference of the logarithms of two gamma variables."""
    key_share, key_rest = jax.random.split(key)
    share, rest = concentration[..., :-1], _rest(concentration)
    logit = jax.random.loggamma(key_share, share, shape) - jax.random.loggamma(key_rest, rest, shape)
    return logit + _shift(shape[-1])


def log_density(concentration: Float[Array, "... shares"], u: Float[Array, "... sticks"]) -> Float[Scalar, ""]:
    """Log density of the coordinates, summed; finite, with finite slopes, at every u that is."""
    share, rest, logit = concentration[..., :-1], _rest(concentration), u - _shift(u.shape[-1])
    log_beta = jax.scipy.special.betaln(share, rest)
    return jnp.sum(share * jax.nn.log_sigmoid(logit) + rest * jax.nn.log_sigmoid(-logit) - log_beta)


def _rest(concentration: Float[Array, "... shares"]) -> Float[Array, "... sticks"]:
    """Of each stick, the concentrations of all shares behind it, summed."""
    return jnp.cumsum(concentration[..., :0:-1], axis=-1)[..., ::-1]


def _shift(sticks: int) -> Float[Array, " sticks"]:
    return jnp.log(jnp.arange(sticks, 0, -1.0))
