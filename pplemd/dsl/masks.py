"""Masks on the laws of latents: a law that is masked in part is flat there, and cannot be drawn."""

from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist

from pplemd.dsl.locations import here
from pplemd.errors import ProgramError


def unmask(distribution: dist.Distribution) -> dist.Distribution:
    """Return the law without its masks, wherever in it they are."""

    def bare(node: Any) -> Any:
        return unmask(node.base_dist) if _is_mask(node) else node

    return jax.tree.map(bare, distribution, is_leaf=_is_mask)


def unmasked(name: str, distribution: dist.Distribution, before: str | None) -> dist.Distribution:
    """Return the law that a latent is drawn from.

    What NumPyro's `obs_mask` imputes is drawn from its whole law: where data were seen, that value is not looked at
    and its density integrates to one.

    Args:
        name: of the latent.
        distribution: as declared; a mask that leaves nothing out is no mask.
        before: the observation declared just before, if there is one.

    Raises:
        ProgramError: a mask leaves something out, or may.
    """
    masks = _masks(distribution)
    if masks and not imputed(name, before) and not all(map(_is_whole, masks)):
        how = "in part" if any(isinstance(mask, jax.core.Tracer) or np.any(mask) for mask in masks) else "wholly"
        raise ProgramError(
            f"{here()}: latent {name!r} is masked {how}: without its prior there it is flat, and a flat latent cannot "
            "be drawn. Take the mask off the latent: declare it outside of numpyro.handlers.mask, and mask the "
            "observation alone where data are missing. A flat prior is a wide one, for example "
            "dist.Normal(0.0, 1000.0), or a NumPyro model's (em.posterior)."
        )
    return unmask(distribution)


def imputed(name: str, before: str | None) -> bool:
    """Whether a latent stands for the data that NumPyro's `obs_mask` calls missing: its pair comes just before it."""
    return before is not None and before.endswith("_observed") and name == f"{before[: -len('_observed')]}_unobserved"


def _masks(distribution: dist.Distribution) -> list[Any]:
    nodes = [node for node in jax.tree.leaves(distribution, is_leaf=_is_mask) if _is_mask(node)]
    # NumPyro has no other access to a mask
    return [mask for node in nodes for mask in (node._mask, *_masks(node.base_dist))]


def _is_mask(node: Any) -> bool:
    return isinstance(node, dist.MaskedDistribution)


def _is_whole(mask: Any) -> bool:
    return not isinstance(mask, jax.core.Tracer) and bool(np.all(mask))
