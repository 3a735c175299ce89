"""Sites know their direct parents, and whether the label and trained arrays reach them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from pplemd import dsl
from pplemd.conditions import as_condition
from pplemd.dsl.graph import Origin, origin_of, origins


class Wired(dsl.Program):
    """Runs the function it holds, so that every case below is one function."""

    weight: jax.Array
    counts: jax.Array
    constant: np.ndarray
    body: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, label: Any = None) -> Any:
        return self.body(self, label)


def _traced(body: Callable[..., Any], classes: int | None = None) -> dsl.Problem:
    program = Wired(jnp.ones(2), jnp.arange(2, dtype=jnp.int32), np.ones(2, np.float32), body)
    return dsl.trace(program, shape=(2,), condition=as_condition(classes))


def _flags(problem: dsl.Problem) -> dict[str, tuple[tuple[str, ...], bool, bool, bool]]:
    return {site.name: (site.parents, site.learned, site.conditioned, site.eligible) for site in problem.sites}


def test_parents_are_the_direct_ones() -> None:
    def body(self: Wired, label: Any) -> Any:
        a = dsl.latent("a", dist.Normal(jnp.zeros(2), 1.0))
        b = dsl.latent("b", dist.Normal(jnp.sin(a), 1.0))
        c = dsl.latent("c", dist.Normal(jnp.zeros(2), jnp.exp(b)))
        d = dsl.latent("d", dist.Normal(a + c, 1.0))
        return dsl.generate("x", d * self.weight)

    problem = _traced(body)
    assert _flags(problem) == {
        "a": ((), False, False, False),
        "b": (("a",), False, False, True),
        "c": (("b",), False, False, True),
        "d": (("a", "c"), False, False, True),
    }
    assert (problem.output.parents, problem.output.conditioned) == (("d",), False)


def test_learned_and_labelled_come_from_fields_and_label() -> None:
    def body(self: Wired, label: Any) -> Any:
        a = dsl.latent("a", dist.Normal(self.weight, 1.0))
        b = dsl.latent("b", dist.Normal(self.constant, 1.0))
        c = dsl.latent("c", dist.Normal(self.counts.astype(jnp.float32), 1.0))
        d = dsl.latent("d", dist.Normal(jnp.zeros(2), 1.0 + label.astype(jnp.float32)))
        e = dsl.latent("e", dist.Normal(a * 0.0 + 1.0, 1.0))
        return dsl.generate("x", a + b + c + d + e + jnp.where(label > 0, 1.0, 0.0))

    problem = _traced(body, classes=2)
    assert _flags(problem) == {
        "a": ((), True, False, True),
        "b": ((), False, False, False),  # a NumPy array is a constant
        "c": ((), False, False, False),  # integers are not trained
        "d": ((), False, True, False),  # the label is given, not inferred
        "e": (("a",), False, False, True),
    }
    assert (problem.output.parents, problem.output.conditioned) == (("a", "b", "c", "d", "e"), True)


@pytest.mark.parametrize(
    ("distribution", "family", "eligible", "base"),
    [
        (lambda m: dist.Normal(m, 1.0), "Normal", True, "normal"),
        (lambda m: dist.Normal(0.0, jnp.exp(m)).to_event(1), "Normal", True, "normal"),
        (lambda m: dist.Normal(m, 1.0).expand([3, 2]).to_event(1), "Normal", True, "normal"),
        (lambda m: dist.Normal(m, 1.0).mask(True), "Normal", True, "normal"),
        (lambda m: dist.LogNormal(m, 1.0), "LogNormal", True, "normal"),
        (lambda m: dist.Laplace(m, 1.0), "Laplace", True, "normal"),
        (lambda m: dist.StudentT(3.0, m, 1.0), "StudentT", True, "prior"),
        (lambda m: dist.StudentT(jnp.exp(m), 0.0, 1.0), "StudentT", False, "prior"),
        (lambda m: dist.HalfNormal(jnp.exp(m)), "HalfNormal", False, "normal"),
        (lambda m: dist.Gamma(jnp.exp(m), 1.0), "Gamma", False, "prior"),
        (lambda m: dist.Uniform(m, 3.0), "Uniform", False, "normal"),
        (lambda m: dist.MultivariateNormal(m, jnp.eye(2)), "MultivariateNormal", True, "normal"),
    ],
)
def test_families(distribution: Callable[..., Any], family: str, eligible: bool, base: str) -> None:
    def body(self: Wired, label: Any) -> Any:
        a = dsl.latent("a", dist.Normal(jnp.zeros(2), 1.0))
        b = dsl.latent("b", distribution(a))
        return dsl.generate("x", a + b.reshape(-1, 2).sum(axis=0))

    site = _traced(body).sites[1]
    assert (site.family, site.eligible, site.base, site.parents) == (family, eligible, base, ("a",))


def test_plates_expand_a_latent() -> None:
    def body(self: Wired, label: Any) -> Any:
        with numpyro.plate("rows", 3):
            a = dsl.latent("a", dist.Normal(self.weight, 1.0).to_event(1))
        return dsl.generate("x", a.sum(axis=0))

    (site,) = _traced(body).sites
    assert (site.shape, site.learned, site.eligible) == ((3, 2), True, True)


def _both(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sin(a), jnp.cos(b)


@pytest.mark.parametrize(
    ("function", "first", "second"),
    [
        (_both, {0}, {1}),
        (jax.jit(_both), {0}, {1}),
        (jax.checkpoint(_both), {0}, {1}),
        (lambda a, b: (jax.nn.relu(a), jax.nn.relu(b)), {0}, {1}),
        (lambda a, b: (jnp.zeros_like(a), b), set(), {1}),
        (lambda a, b: (jnp.where(a > 0, a, b), b), {0, 1}, {1}),
        # loops and branches: everything on everything
        (lambda a, b: jax.lax.scan(lambda c, _: ((c[0] + 1.0, 2.0 * c[1]), None), (a, b), length=2)[0], {0, 1}, {0, 1}),
        (lambda a, b: jax.lax.cond(a[0] > 0, _both, lambda a, b: (a, b), a, b), {0, 1}, {0, 1}),
    ],
)
def test_origins_through_nested_jaxprs(function: Callable[..., Any], first: set[int], second: set[int]) -> None:
    jaxpr = jax.make_jaxpr(function)(jnp.ones(2), jnp.ones(2)).jaxpr
    known = origins(jaxpr, [frozenset({0}), frozenset({1})])
    assert [set(origin_of(atom, known)) for atom in jaxpr.outvars] == [first, second]


def test_a_custom_rule_is_entered() -> None:
    @jax.custom_vjp
    def swap(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        return b, a

    swap.defvjp(lambda a, b: ((b, a), None), lambda _, g: (g[1], g[0]))
    jaxpr = jax.make_jaxpr(swap)(jnp.ones(2), jnp.ones(2)).jaxpr
    known = origins(jaxpr, [frozenset({Origin.LEARNED}), frozenset({Origin.CONDITION})])
    assert [origin_of(atom, known) for atom in jaxpr.outvars] == [{Origin.CONDITION}, {Origin.LEARNED}]
