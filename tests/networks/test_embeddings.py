"""Embeddings of time and class."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.networks.embeddings import ClassEmbedding, fourier_features


def test_time_features_tell_noise_levels_apart_and_do_not_repeat() -> None:
    log_sigmas = jnp.linspace(np.log(0.002), np.log(80.0), 400)  # spacing 0.027 in log sigma
    features = np.asarray(jax.vmap(fourier_features)(log_sigmas / 4))
    assert features.shape == (400, 64)
    assert np.abs(features).max() <= 1
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    neighbours = np.diagonal(distances, 1)
    assert neighbours.min() > 0.2
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 0.9 * neighbours.min()  # nothing far away is closer than a neighbour


def test_time_features_stay_in_32_bits() -> None:
    assert fourier_features(jnp.asarray(0.3, jnp.bfloat16)).dtype == jnp.float32


def test_class_embedding_picks_a_row_and_no_label_is_zero() -> None:
    embedding = ClassEmbedding(3, 5, key=jax.random.key(0))
    for label in range(3):
        np.testing.assert_allclose(eqx.filter_jit(embedding)(jnp.asarray(label)), embedding.table[label], rtol=1e-6)
    for label in (None, -1, 3):
        np.testing.assert_array_equal(embedding(label), np.zeros(5))
