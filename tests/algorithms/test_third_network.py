"""An algorithm with a third network, a discriminator, in one file: trained, resumed and reported by the public API."""

import json
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import pplemd as em


class Plane(em.Program):
    net: em.networks.MLP

    def __call__(self):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(2), 1.0))))


class Adversarial(em.algorithms.AbstractDistillation):
    """The generator deceives a discriminator of samples; a score network follows it, for its health alone."""

    discriminator: em.Adam = em.Adam(3e-3)

    def optimisers(self):
        return {**super().optimisers(), "discriminator": self.discriminator}

    def updates(self):
        return (*super().updates(), em.Update("discriminator", self.pairs, self.separate))

    def draw(self, context, now, key):
        return self.noised(context, now, key).latents

    def loss(self, program, context, now, rows):
        x = jax.vmap(lambda u: context.problem.generate(program, u))(rows)
        logits = jax.vmap(now.networks["discriminator"])(x)[:, 0]
        return jnp.mean(jax.nn.softplus(-logits)), {"pull": jnp.mean(jax.nn.sigmoid(-logits))}

    def pairs(self, context, now):
        key_real, key_fake = jax.random.split(em.keys.named(now.key, "discriminator"))
        return em.teachers.sample(key_real, context.teacher, context.training.batch), self.draw(context, now, key_fake)

    def separate(self, network, context, now, rows):
        fake = jax.vmap(lambda u: context.problem.generate(now.networks["generator"], u))(rows[1])
        real, fake = (jax.vmap(network)(x)[:, 0] for x in (rows[0], fake))
        loss = jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))
        return loss, {"discriminator_loss": loss}


NETWORKS = {
    "score": lambda key: em.Denoiser(em.networks.TimedMLP((2,), width=8, blocks=1, key=key), 1.0),
    "discriminator": lambda key: em.networks.MLP((2,), (1,), width=32, depth=2, key=key),
}


def model(networks):
    return em.Model(
        program=lambda teacher, key: Plane(em.networks.MLP((2,), (2,), width=32, depth=2, key=key)),
        teacher=em.GaussianMixture([[2.0, 0.0]], 0.5),
        algorithm=Adversarial(generator=em.Adam(3e-3)),
        training=em.Training(steps=40, batch=64, log_every=10, sample_every=20, checkpoint_every=20),
        networks=networks,
    )


def test_it_is_trained_resumed_and_reported(tmp_path):
    whole = em.distil(model(NETWORKS), tmp_path / "whole", reporter=em.Silent(), judge=False)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert {"discriminator_loss", "score_lag", "gradient_norm"} <= set(lines[-1])
    x = np.asarray(whole.result.sample(jax.random.key(0), 500))
    assert x[:, 0].mean() > 0.3  # it has set out for the teacher's mean, 2, from about 0
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "40")
    again = em.distil(model(NETWORKS), tmp_path / "half", resume=True, reporter=em.Silent(), judge=False)
    assert eqx.tree_equal(again.result.program, whole.result.program)
    assert "discriminator loss" in em.write_report(tmp_path / "whole", reporter=em.Silent()).read_text().lower()
