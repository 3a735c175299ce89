"""Images halved and doubled by a separable filter, without parameters."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pplemd.errors import RecipeError

Taps = tuple[int | float, ...]  # weights of the filter along one axis, even in number, of any sum but 0


def check_taps(owner: str, taps: Taps) -> None:
    """Raise RecipeError unless a filter keeps halves and doubles of an image in step.

    Raises:
        RecipeError: an odd number of taps, or taps that sum to 0.
    """
    if not taps or len(taps) % 2 or sum(taps) == 0:
        raise RecipeError(
            f"{owner}: the resampling filter is {taps}; expected an even number of weights whose sum is not 0. "
            "Usual are (1, 1) and (1, 3, 3, 1)."
        )


def margin(taps: Taps) -> int:
    """Pixels of padding on each side that keep a halved image centred."""
    return (len(taps) - 1) // 2


def padded(x: Float[Array, "h w c"], pixels: int) -> Float[Array, "h+2*{pixels} w+2*{pixels} c"]:
    """Return the image with zeros around it."""
    return jnp.pad(x, ((pixels, pixels), (pixels, pixels), (0, 0)))


def decimated(x: Float[Array, "h w c"], taps: Taps) -> Float[Array, "_ _ c"]:
    """Return every second pixel of the image filtered along both axes, without padding.

    `y_i = sum_j f_j x_{2i + j}` along each axis, f the taps over their sum.

    Args:
        x: one image.
        taps: the filter.
    """
    return _decimated(_decimated(x, 0, taps), 1, taps)


def downsampled(x: Float[Array, "h w c"], taps: Taps = (1, 1)) -> Float[Array, "h//2 w//2 c"]:
    """Return the image at half its size, filtered, zeros beyond its border. Taps (1, 1) are average pooling."""
    return decimated(padded(x, margin(taps)), taps)


def upsampled(x: Float[Array, "h w c"], taps: Taps = (1, 1)) -> Float[Array, "2*h 2*w c"]:
    """Return the image at twice its size: the transpose of `downsampled`, times 4. Taps (1, 1) repeat pixels.

    `y_k = sum_i 2 f_{k + margin - 2i} x_i` along each axis, f the taps over their sum.

    Args:
        x: one image.
        taps: the filter.
    """
    return _doubled(_doubled(x, 0, taps), 1, taps)


def _decimated(x: Array, axis: int, taps: Taps) -> Array:
    count = (x.shape[axis] - len(taps)) // 2 + 1
    terms = [
        tap / sum(taps) * jax.lax.slice_in_dim(x, start, start + 2 * count - 1, 2, axis)
        for start, tap in enumerate(taps)
    ]
    return functools.reduce(jnp.add, terms)


def _doubled(x: Array, axis: int, taps: Taps) -> Array:
    """Even and odd pixels of the result are filtered apart, by every second tap, and put in turn."""
    size, reach = x.shape[axis], len(taps) // 2
    wide = jnp.pad(x, [(reach, reach) if at == axis else (0, 0) for at in range(3)])
    phases = []
    for phase in (0, 1):
        terms = []
        for at, tap in enumerate(taps):
            shift, odd = divmod(phase + margin(taps) - at, 2)  # k + margin - 2i = at: i = (k + margin - at) / 2
            if not odd:
                terms.append(
                    2 * tap / sum(taps) * jax.lax.slice_in_dim(wide, reach + shift, reach + shift + size, 1, axis)
                )
        phases.append(functools.reduce(jnp.add, terms))
    stacked = jnp.stack(phases, axis + 1)
    return stacked.reshape([2 * size if at == axis else side for at, side in enumerate(x.shape)])
