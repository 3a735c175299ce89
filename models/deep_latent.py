"""Two hierarchical layers of latents under handwritten digits, 8 x 8, trained by Monte Carlo EM: no encoder.

Source: Kingma & Welling, arXiv:1402.0480, sections 5 and 6 (deep latent models by Monte Carlo EM; centered or not);
Kingma, arXiv:1306.0733. Here every image keeps a chain of its own latents, moved by HMC when its turn comes; the middle
layer is moved by its value (centered), by its noise (noncentered), or as its chains' draws choose (auto).
Command: pplemd fit models/deep_latent.py --program auto (or noncentered, or centered)
Then: samples.png in the run folder; pplemd evaluate gives log p(x) of 16 images, pplemd diagnose the choice.
Expect: log p(x) per image some 28 nats by auto, 24 noncentered, 15 centered (seed 0); two minutes of processor time
    and its judgement, no GPU. Long chains of single images, from the prior, do not agree: several modes.
    Whether it has converged is not known: its log joint may still rise where the learning rate has decayed.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

images = em.data.digits().train.x
TOP, MIDDLE = 6, 16


class DeepLatent(em.Program):
    """top ~ N(0, I), middle ~ N(m(top), s(top)), image ~ N(g(middle), exp(log_noise)): latents of one image."""

    layer: em.networks.MLP
    decoder: em.networks.MLP
    log_noise: jax.Array
    centered: Any = eqx.field(static=True)

    def __call__(self, image):
        top = em.latent("top", dist.Normal(jnp.zeros(TOP), 1.0).to_event(1))
        mean, log_scale = jnp.split(self.layer(top), 2)
        middle = em.latent("middle", dist.Normal(mean, jnp.exp(log_scale)).to_event(1), centered=self.centered)
        drawn = self.decoder(middle)
        em.observe("image", dist.Normal(drawn, jnp.exp(self.log_noise)).to_event(3), image)
        return em.generate("x", drawn)


def declared(centered: Any) -> em.Fit:
    """The fit with its middle layer in such coordinates."""

    def program(key):
        key_layer, key_decoder = jax.random.split(key)
        layer = em.networks.MLP((TOP,), (2 * MIDDLE,), width=64, depth=2, key=key_layer)
        decoder = em.networks.MLP((MIDDLE,), images.shape[1:], width=128, depth=2, key=key_decoder)
        return DeepLatent(layer, decoder, jnp.asarray(-1.0), centered)

    return em.Fit(
        program=program,
        data={"image": images},
        algorithm=em.MonteCarloEM(
            minibatches=True,
            chain=em.Chain(em.HMC(leapfrogs=4), length=2, cancel=em.Cancellation.NONE),
            reparameterization=em.Reparameterization(every=500, rounds=25),
            optimiser=em.Adam(learning_rate=2e-3, clip=0.0, final=0.02),
        ),
        training=em.Training(steps=4000, batch=128, log_every=25),
        diagnostics=em.Diagnostics(em.HMC(leapfrogs=8), warm_up=1000, draws=1000),
    )


auto, noncentered, centered = declared("auto"), declared(False), declared(True)
