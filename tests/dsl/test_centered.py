"""`centered=` in a program: recorded, refused where it means nothing, honoured by every choice of lambda."""

import inspect
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd import dsl
from pplemd.errors import ProgramError

latent: Any = inspect.unwrap(dsl.latent)  # without the type check of the tests, which would speak first
generate: Any = inspect.unwrap(dsl.generate)


class Levels(dsl.Program):
    mu: jax.Array
    centered: Any = eqx.field(static=True, default="auto")

    def __call__(self) -> None:
        top = latent("top", dist.Normal(self.mu, 1.0))
        rows = latent("rows", dist.Normal(top, 1.0).expand([3]), centered=self.centered)
        free = latent("free", dist.Normal(top, 2.0).expand([3]))
        dsl.observe("y", dist.Normal(rows + free, 1.0), jnp.zeros(3))


class Generated(dsl.Program):
    net: jax.Array
    centered: Any = eqx.field(static=True, default="auto")

    def __call__(self) -> Any:
        z = latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return generate("x", self.net * z, centered=self.centered)


class Case(dsl.Program):
    """One latent of a law, declared with a `centered`."""

    mu: jax.Array
    law: Any = eqx.field(static=True)
    centered: Any = eqx.field(static=True, default=True)

    def __call__(self) -> None:
        z = latent(
            "z", self.law(self.mu), centered=self.centered(self.mu) if callable(self.centered) else self.centered
        )
        dsl.observe("y", dist.Normal(z, 1.0), jnp.zeros(()))


@pytest.mark.parametrize(
    ("centered", "recorded", "lam"),
    [
        ("auto", "auto", [0.25] * 3),
        (True, 1.0, [1.0] * 3),
        (False, 0.0, [0.0] * 3),
        (0.3, 0.3, [0.3] * 3),
        ((0.0, 0.5, 1.0), (0.0, 0.5, 1.0), [0.0, 0.5, 1.0]),
    ],
)
def test_what_is_declared_is_recorded_and_honoured(centered: Any, recorded: Any, lam: list[float]) -> None:
    declared = Levels(jnp.zeros(()), centered)
    problem = dsl.trace_observed(declared)
    top, rows, free = problem.sites
    assert (rows.centered, free.centered, rows.free, free.free) == (recorded, "auto", recorded == "auto", True)
    found = problem.centering(0.25, 0.5)
    np.testing.assert_allclose(found.loc["rows"], lam, rtol=1e-6)
    np.testing.assert_allclose(found.scale["rows"], [0.5] * 3 if recorded == "auto" else lam, rtol=1e-6)
    np.testing.assert_allclose(found.loc["free"], 0.25)


@pytest.mark.parametrize("centered", ["auto", True, 0.25])
def test_x_is_a_site_too(centered: Any) -> None:
    problem = dsl.trace(Generated(jnp.ones(2), centered), shape=(2,))
    assert problem.output.centered == (centered if centered == "auto" else float(centered))


def _normal(mu: Any) -> Any:
    return dist.Normal(mu, 1.0)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (Case(jnp.zeros(()), _normal, 1.5), "centered=1.5; expected numbers from 0"),
        (Case(jnp.zeros(()), _normal, float("nan")), "centered=nan; expected numbers from 0"),
        (Case(jnp.zeros(()), _normal, "yes"), "centered='yes'; expected True, False, a number"),
        (Case(jnp.zeros(()), _normal, (0.0, 1.0)), "array of them of shape ()"),
        (Case(jnp.zeros(()), _normal, lambda mu: mu), "a traced value as `centered`"),
        (Case(jnp.zeros(()), lambda mu: dist.Gamma(jnp.exp(mu), 1.0)), "of no location-scale family"),
        (Case(jnp.zeros(()), lambda mu: dist.Normal(0.0, 1.0)), "neither the location nor the scale"),
        (Case(jnp.zeros(()), lambda mu: dist.Normal(0.0, 1.0), False), "neither the location nor the scale"),
    ],
)
def test_what_means_nothing_is_refused_with_its_line(program: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=re.escape(said)) as error:
        dsl.trace_observed(program)
    assert "test_centered.py, line " in str(error.value)


def test_x_of_a_program_that_observes_is_never_noised() -> None:
    class Both(dsl.Program):
        mu: jax.Array

        def __call__(self) -> Any:
            z = dsl.latent("z", dist.Normal(self.mu, 1.0))
            dsl.observe("y", dist.Normal(z, 1.0), jnp.zeros(()))
            return dsl.generate("x", z, centered=True)

    with pytest.raises(ProgramError, match="expected none in a program that observes"):
        dsl.trace_observed(Both(jnp.zeros(())))
