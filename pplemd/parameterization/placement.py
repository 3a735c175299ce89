"""The coordinates of a problem's latents as a family: a place and a way back for every lambda."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from pplemd.dsl import AbstractLatents, Centering, Problem
from pplemd.errors import RecipeError
from pplemd.inference import TiltedTarget, transformed

Values = dict[str, Array]


class Placement(eqx.Module):
    """A program whose latents may be moved in partially centered coordinates.

    Attributes:
        problem: the traced program.
        program: its networks; its own arrays, or an EMA of them.
    """

    problem: AbstractLatents
    program: PyTree

    def __check_init__(self) -> None:
        if not self.sites:
            raise RecipeError(
                f"{self.problem.name} has no site that can be centered or not: none is of a location-scale family "
                "with real support whose loc or scale depends on a latent or a trained array. Leave it as it is."
            )

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the eligible sites."""
        return tuple(site.name for site in self.problem.sites if site.eligible)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the eligible sites whose lambda the program leaves to be chosen."""
        return tuple(site.name for site in self.problem.sites if site.free)

    def of(self, row: Int[Array, ""] | None) -> "Placement":
        """The placement of a draw: of its row of the program's plate."""
        if row is None:
            return self
        assert isinstance(self.problem, Problem)  # NumPyro's models have no minibatches
        return Placement(self.problem.at({self.problem.plates[0].name: row[None]}), self.program)

    def target(self, target: TiltedTarget, lam: Centering) -> TiltedTarget:
        """A target of base coordinates u, in the coordinates v of lam."""
        return transformed(target, Change(self, lam))


class Change(eqx.Module):
    """One change of coordinates, v -> (u, log|det du/dv|), and its inverse.

    Attributes:
        placement: whose.
        lam: which.
    """

    placement: Placement
    lam: Centering

    def __call__(self, v: Values) -> tuple[Values, Float[Array, ""]]:
        """Base coordinates at v, and the log-determinant."""
        return self.placement.problem.to_base(self.placement.program, v, self.lam)

    def inverse(self, u: Values) -> Values:
        """V at base coordinates u."""
        return self.placement.problem.from_base(self.placement.program, u, self.lam)


class Pilot(eqx.Module):
    """Draws with their scores, in base coordinates; each leaf with a leading dimension draw.

    Attributes:
        u: base coordinates by site.
        score: gradient of log rho at u, that of the base included.
        rows: the row of the program's plate that each draw is of, where it is traced for one row.
        groups: of targets of their own, such as rows: as many equal parts of the draws, one after the other.
    """

    u: Values
    score: Values
    rows: Int[Array, " draw"] | None = None
    groups: int = eqx.field(static=True, default=1)

    def along(self, placement: Placement, lam: Centering) -> tuple[Float[Array, "draw n"], Float[Array, "draw n"]]:
        """The same draws and their scores in the coordinates of lam, flat, without an evaluation of the target.

        The pull-back of v -> (u, log|det du/dv|) on (score, 1). Where there are groups, both are less their means.
        """

        def one(u: Values, score: Values, row: Array | None) -> tuple[Array, Array]:
            change = Change(placement.of(row), lam)
            v = change.inverse(u)
            (_, log_det), pull = jax.vjp(change, v)
            (moved,) = pull((score, jnp.ones_like(log_det)))
            return flat(v), flat(moved)

        v, moved = jax.vmap(one)(self.u, self.score, self.rows)
        return self.within_groups(v), self.within_groups(moved)

    def within_groups(self, x: Float[Array, "draw n"]) -> Float[Array, "draw n"]:
        """What is left of each group's numbers when their mean is taken away; as they are where there is one group."""
        if self.groups == 1:
            return x
        parts = x.reshape(self.groups, -1, x.shape[1])
        return (parts - jnp.mean(parts, axis=1, keepdims=True)).reshape(x.shape)


@eqx.filter_jit
def scored(target: TiltedTarget, u: Values) -> Pilot:
    """A pilot of draws in base coordinates, with their scores under a target, evaluated once each."""
    return Pilot(u, jax.vmap(target.score)(u))


def flat(values: Values) -> Float[Array, " n"]:
    """All elements in one row, sites by name."""
    return ravel_pytree(values)[0]
