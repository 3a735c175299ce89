"""Self-attention over the pixels of one image."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.layers import GroupNorm, Linear, zeroed

HEAD = 64  # features a head: arXiv:2105.05233, section 3


def attend(
    query: Float[Array, "tokens heads feature"],
    key: Float[Array, "tokens heads feature"],
    value: Float[Array, "tokens heads feature"],
) -> Float[Array, "tokens heads feature"]:
    """Every token sees every token: softmax(q k^T / sqrt(features)) v, in each head; the softmax in 32 bits.

    On NVIDIA GPUs, 16-bit inputs go through cuDNN's flash attention, where it takes them: nothing of size tokens^2 is
    kept. It has a gradient but no forward-mode derivative.

    Source: arXiv:1706.03762, section 3.2.1; arXiv:2205.14135.
    """
    with jax.numpy_dtype_promotion("standard"):
        if _flash(query):
            try:
                return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
            except (RuntimeError, ValueError, NotImplementedError):  # no cuDNN, or one that lacks these shapes
                pass
        return jax.nn.dot_product_attention(query, key, value)


def _flash(query: Array) -> bool:
    """Whether cuDNN's attention may take such inputs on the device that JAX runs on by default."""
    if query.dtype not in (jnp.bfloat16, jnp.float16) or query.shape[-1] % 8 or query.shape[-1] > 128:
        return False
    capability = str(getattr(jax.devices()[0], "compute_capability", "0"))  # "9.0"; another's is no number, or missing
    return capability.replace(".", "", 1).isdigit() and float(capability) >= 8


class SelfAttention(eqx.Module):
    """`x + W_out attend(q, k, v)` with q, k, v linear in norm(x), every pixel seeing every pixel; W_out zero at first.

    There is no position encoding: permuting the pixels permutes the output. Heads have 64 features, or there is one
    head where 64 does not divide the channels.

    Args:
        channels: channels of the image.
        heads: number of heads, a divisor of the channels; None for the rule above.
        floor: of the variance, in the norm.
        key: random key.

    Source: arXiv:1706.03762, section 3.2.
    """

    norm: GroupNorm
    project_in: Linear
    project_out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, heads: int | None = None, floor: float = 1e-5, *, key: Key[Array, ""]) -> None:
        key_in, key_out = jax.random.split(key)
        self.norm = GroupNorm(channels, floor)
        self.project_in = Linear(channels, 3 * channels, key=key_in)
        self.project_out = zeroed(Linear(channels, channels, key=key_out))
        self.heads = heads or (channels // HEAD if channels % HEAD == 0 else 1)

    def __call__(self, x: Float[Array, "h w channels"]) -> Float[Array, "h w channels"]:
        """Attend over one image."""
        channels = x.shape[-1]
        tokens = self.project_in(self.norm(x).reshape(-1, channels))
        query, key, value = tokens.reshape(-1, 3, self.heads, channels // self.heads).swapaxes(0, 1)
        attended = attend(query, key, value)
        return x + self.project_out(attended.reshape(-1, channels)).reshape(x.shape)
