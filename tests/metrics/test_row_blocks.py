"""Features of a row do not depend on what stands beside it."""

import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.metrics.features import GivenFeatures, principal, train_classifier

SOME = np.random.default_rng(0).uniform(-1, 1, (1500, 8, 8, 1)).astype(np.float32)


@pytest.mark.parametrize("kind", ["classifier", "components", "given"])
def test_a_row_gives_the_same_bits_alone_and_among_others(kind):
    weights = jnp.asarray(np.random.default_rng(1).standard_normal((64, 32)), jnp.float32)
    extractor = {
        "classifier": lambda: train_classifier(SOME[:200], np.arange(200) % 3),
        "components": lambda: principal(SOME),
        "given": lambda: GivenFeatures(lambda x: jnp.tanh(x.reshape(-1) @ weights)),
    }[kind]()
    together = extractor.features(SOME)
    for rows in (slice(0, 1), slice(3, 40), slice(1200, 1500)):
        np.testing.assert_array_equal(extractor.features(SOME[rows]), together[rows])
