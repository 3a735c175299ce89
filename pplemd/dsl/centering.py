"""How far each latent is centered: the lambdas of a (partial) reparameterization, and what they are lambdas of."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from pplemd.conditions import Condition
from pplemd.dsl.sites import Site
from pplemd.errors import ProgramError

Values = Mapping[str, Float[Array, "..."]]


class Centering(eqx.Module):
    """lambda of every reparameterized site, by element: 1 centered, 0 non-centered.

    Array leaves, so that one compilation serves all values. A site without entry keeps its base coordinates.

    Source: Papaspiliopoulos, Roberts & Skold 2007 (partial non-centering); arXiv:1906.03028.

    Attributes:
        loc: by site, of its base shape: how much of its location is left in the coordinate.
        scale: by site, of its base shape: what power of its scale is left in the coordinate.
    """

    loc: dict[str, Float[Array, "..."]]
    scale: dict[str, Float[Array, "..."]]

    def __check_init__(self) -> None:
        if self.loc.keys() != self.scale.keys():
            raise ProgramError(
                f"a Centering was given loc for {sorted(self.loc)} and scale for {sorted(self.scale)}; expected both "
                "for the same sites. Give each site the same array twice where they are tied."
            )


class AbstractLatents(eqx.Module):
    """Latents in base coordinates u and, those that are eligible, in partially centered coordinates v.

    All coordinates are dictionaries by site, of one sample. What is trained comes as `program`.

    Attributes:
        name: what they are latents of.
        sites: each of them, in order of declaration.
    """

    name: eqx.AbstractVar[str]
    sites: eqx.AbstractVar[tuple[Site, ...]]

    @abstractmethod
    def draw(self, key: Key[Array, ""], program: PyTree, condition: Condition = None) -> dict[str, Float[Array, "..."]]:
        """Draw base coordinates that a chain may start from."""

    @abstractmethod
    def log_base(self, program: PyTree, u: Values, condition: Condition = None) -> Float[Scalar, ""]:
        """Return the log-density of base coordinates under the prior."""

    @abstractmethod
    def latents(self, program: PyTree, u: Values, condition: Condition = None) -> dict[str, Float[Array, "..."]]:
        """Return the values of the latents at base coordinates u."""

    @abstractmethod
    def to_base(
        self, program: PyTree, v: Values, lam: Centering, condition: Condition = None
    ) -> tuple[dict[str, Float[Array, "..."]], Float[Scalar, ""]]:
        """Return base coordinates u and log|det du/dv| at partially centered coordinates v."""

    @abstractmethod
    def from_base(
        self, program: PyTree, u: Values, lam: Centering, condition: Condition = None
    ) -> dict[str, Float[Array, "..."]]:
        """Return partially centered coordinates v at base coordinates u."""

    def centering(self, loc: float = 0.0, scale: float | None = None) -> Centering:
        """Return one lambda for every element of every eligible site: 0 non-centered, 1 centered.

        A site that says how centered it is keeps its own.

        Args:
            loc: lambda_loc.
            scale: lambda_scale; lambda_loc where it is not given.
        """

        def filled(number: float) -> dict[str, Array]:
            return {site.name: jnp.full(site.base_shape, number, site.dtype) for site in self.sites if site.eligible}

        return self.honoured(Centering(filled(loc), filled(loc if scale is None else scale)))

    def honoured(self, lam: Centering) -> Centering:
        """Return the same lambdas, with those that are declared (`centered=`) in their places."""
        own = {
            site.name: jnp.broadcast_to(
                jnp.asarray(site.centered, site.dtype).reshape(-1), (math.prod(site.base_shape),)
            ).reshape(site.base_shape)
            for site in self.sites
            if site.name in lam.loc and site.eligible and not site.free
        }
        return Centering({**lam.loc, **own}, {**lam.scale, **own})
