"""R-hat and effective sample sizes of ranks, against ArviZ's, and of draws that are often the same."""

import arviz
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.inference import bulk_ess, r_hat


def autoregression(seed: int, rho: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((4, 1))]
    for _ in range(199):
        x.append(rho * x[-1] + np.sqrt(1 - rho**2) * rng.standard_normal((4, 1)))
    return np.stack(x, axis=1)


RNG = np.random.default_rng(5)
DRAWS = {
    "independent": RNG.standard_normal((4, 200, 1)),
    "slow": autoregression(1, 0.8),
    "rounded": np.round(autoregression(2, 0.3)),
    "rare": (RNG.uniform(size=(4, 200, 1)) < 0.05).astype(float),
    "apart": RNG.standard_normal((4, 200, 1)) + np.arange(4.0)[:, None, None] / 3,
}


@pytest.mark.slow_for("independent")
@pytest.mark.parametrize("name", list(DRAWS))
def test_figures_are_those_of_arviz(name: str) -> None:
    """Draws that are the same share a rank: by the order that they stand in, they would look like chains that drift."""
    draws = DRAWS[name]
    theirs = float(arviz.ess(draws[..., 0], method="bulk"))
    np.testing.assert_allclose(bulk_ess(jnp.asarray(draws)), theirs, rtol=0.05)
    bulk = float(arviz.rhat(draws[..., 0], method="z_scale"))
    np.testing.assert_allclose(r_hat(jnp.asarray(draws)), bulk, atol=0.003)
