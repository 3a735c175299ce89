"""How far each latent is centered: the lambdas of a (partial) reparameterization."""

import equinox as eqx
from jaxtyping import Array, Float

from pplemd.errors import ProgramError


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
