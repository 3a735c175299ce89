"""A choice of coordinates in words, for people."""

import jax.numpy as jnp
from jaxtyping import Array

from pplemd.parameterization.policy import Choice


def described(choice: Choice) -> list[str]:
    """One line for each site: its lambdas and kappas; then the costs that they were chosen by."""
    lines = [_site(name, choice) for name in choice.lam.loc]
    costs = {"0": choice.noncentered, "1": choice.centered, "best": choice.least, "chosen": choice.chosen}
    listed = ", ".join(f"{name} {float(cost):.3g}" for name, cost in costs.items())
    lines.append(f"{choice.criterion}: cost at lambda {listed}" + ("; kept from before" if choice.kept else ""))
    return lines


def _site(name: str, choice: Choice) -> str:
    loc, scale = choice.lam.loc[name], choice.lam.scale[name]
    if jnp.array_equal(loc, scale):
        both = f"lambda {_span(loc)}"
    else:
        both = f"lambda {_span(loc)} of loc, {_span(scale)} of scale"
    kind = {0.0: "non-centered, ", 1.0: "centered, "}.get(float(loc.ravel()[0]), "") if jnp.ptp(loc) == 0 else ""
    return f"{name}: {kind}{both}, kappa {_span(choice.kappa[name])}"


def _span(values: Array) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.2g}" if high - low < 0.005 else f"{low:.2g} to {high:.2g}"
