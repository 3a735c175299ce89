"""The coordinates of a problem's latents as a family: a place and a way back for every lambda."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from pplemd.dsl import Centering, Problem
from pplemd.errors import RecipeError
from pplemd.inference import TiltedLaw, placed

Values = dict[str, Array]


class Placement(eqx.Module):
    """A program whose latents may be moved in partially centered coordinates.

    Attributes:
        problem: the traced program.
        program: its networks; its own arrays, or an EMA of them.
        label: where it takes one.
    """

    problem: Problem
    program: PyTree
    label: Int[Array, ""] | None = None

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

    def of(self, label: Int[Array, ""] | None = None, row: Int[Array, ""] | None = None) -> "Placement":
        """The placement of a draw: of its class, and of its row of the program's plate."""
        problem = self.problem if row is None else self.problem.at({self.problem.plates[0].name: row[None]})
        return Placement(problem, self.program, self.label if label is None else label)

    def law(self, law: TiltedLaw, lam: Centering) -> TiltedLaw:
        """A law of base coordinates u, in the coordinates v of lam."""
        return placed(law, Change(self, lam))


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
        of = self.placement
        return of.problem.place(of.program, v, self.lam, of.label)

    def inverse(self, u: Values) -> Values:
        """V at base coordinates u."""
        of = self.placement
        return of.problem.displace(of.program, u, self.lam, of.label)


class Pilot(eqx.Module):
    """Draws with their scores, in base coordinates; each leaf with a leading dimension draw.

    Attributes:
        u: base coordinates by site.
        score: gradient of log rho at u, that of the base included.
        labels: the class of each draw, where there are classes; it goes before the placement's.
        rows: the row of the program's plate that each draw is of, where it is traced for one row.
        groups: of laws of their own, such as rows: as many equal parts of the draws, one after the other.
    """

    u: Values
    score: Values
    labels: Int[Array, " draw"] | None = None
    rows: Int[Array, " draw"] | None = None
    groups: int = eqx.field(static=True, default=1)

    def along(self, placement: Placement, lam: Centering) -> tuple[Float[Array, "draw n"], Float[Array, "draw n"]]:
        """The same draws and their scores in the coordinates of lam, flat; no law is asked.

        The pull-back of v -> (u, log|det du/dv|) on (score, 1). Where there are groups, both are less their means.
        """

        def one(u: Values, score: Values, label: Array | None, row: Array | None) -> tuple[Array, Array]:
            change = Change(placement.of(label, row), lam)
            v = change.inverse(u)
            (_, log_det), pull = jax.vjp(change, v)
            (moved,) = pull((score, jnp.ones_like(log_det)))
            return flat(v), flat(moved)

        v, moved = jax.vmap(one)(self.u, self.score, self.labels, self.rows)
        return self.within_groups(v), self.within_groups(moved)

    def within_groups(self, x: Float[Array, "draw n"]) -> Float[Array, "draw n"]:
        """What is left of each group's numbers when their mean is taken away; as they are where there is one group."""
        if self.groups == 1:
            return x
        parts = x.reshape(self.groups, -1, x.shape[1])
        return (parts - jnp.mean(parts, axis=1, keepdims=True)).reshape(x.shape)


def recorded(
    placement: Placement, v: Values, score: Values, lam: Centering, labels: Int[Array, " draw"] | None = None
) -> Pilot:
    """A pilot of draws whose scores were recorded in the coordinates of lam, such as an E-step's; no law is asked.

    Args:
        placement: whose coordinates they are.
        v: by site, each with a leading dimension draw.
        score: gradient of log rho(v) at v, of the structure of v.
        lam: whose coordinates v are.
        labels: the class of each draw.
    """

    def one(v: Values, score: Values, label: Array | None) -> tuple[Values, Values]:
        change = Change(placement.of(label), lam)

        def back(u: Values) -> tuple[Values, Array]:
            there = change.inverse(u)
            return there, -change(there)[1]

        u = change(v)[0]
        (_, log_det), pull = jax.vjp(back, u)
        return u, pull((score, jnp.ones_like(log_det)))[0]

    return Pilot(*jax.vmap(one)(v, score, labels), labels)


@eqx.filter_jit
def asked(law: TiltedLaw, u: Values) -> Pilot:
    """A pilot of draws of a law in base coordinates whose scores it is asked for, once each."""
    return Pilot(u, jax.vmap(law.score)(u))


def flat(values: Values) -> Float[Array, " n"]:
    """All elements in one row, sites by name."""
    return ravel_pytree(values)[0]
