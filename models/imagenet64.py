"""ImageNet, 64 x 64, by class: EDM's ADM network is distilled into one step by EMD-16.

Source: arXiv:2405.16852, section 5 (EMD-16: K = 16 Langevin steps of eps and z, Adam without momentum, batch 128), on
the class-conditional network of arXiv:2206.00364, 295,899,267 parameters. Learning rates, step sizes, EMA and sigma*
(a log-SNR of -6 for data of s.d. 0.5) are the paper's as far as its tables are recalled; the noise levels, and
bfloat16 with recomputed blocks and microbatches of 8, are this project's choice.
Teacher: edm-imagenet-64x64-cond-adm.pkl of https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/ (CC BY-NC-SA 4.0).
Command: pplemd distill models/imagenet64.py --teacher edm-imagenet-64x64-cond-adm.pkl
Plan: pplemd distill models/imagenet64.py --dry-run, with or without the checkpoint; --target h100 for another device.
Expect: the paper reports FID 2.20 for EMD-16 (its teacher: 2.4 by EDM's sampler), after 300,000 steps on 64 TPUv4.
By this file: not measured.
"""

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

ADM = {  # the constructor's arguments, by their names in EDM's checkpoint
    "class_name": "EDMPrecond",
    "model_type": "DhariwalUNet",
    "img_resolution": 64,
    "img_channels": 3,
    "label_dim": 1000,
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
}


class ImageNet(em.Program):
    """x = g(z, label), z ~ N(0, I): the teacher's denoiser, asked once at sigma*, trained from there."""

    net: em.OneStep

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros(self.net.shape), 1.0))
        return em.generate("x", self.net(z, label))


imagenet64 = em.Model(
    program=lambda teacher, key: ImageNet(em.one_step(teacher, sigma=20.1)),
    teacher=em.imported(
        "EDM's edm-imagenet-64x64-cond-adm.pkl, from https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/",
        architecture="edm",
        config=ADM,
    ),
    algorithm=em.EMD(
        sigmas=em.LogNormal(mean=-0.8, std=1.6),
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2)), length=16),
        reparameterization=None,
        generator=em.Adam(learning_rate=2e-6, b1=0.0, b2=0.99),
        score=em.ScoreUpdates(em.Adam(learning_rate=1e-5, b1=0.0, b2=0.99), em.LogNormal(mean=-0.8, std=1.6), count=1),
        average=0.9999,
    ),
    training=em.Training(
        steps=300_000,
        batch=128,
        log_every=100,
        sample_every=2000,
        checkpoint_every=2000,
        precision=em.Precision(bf16=True, rematerialise=True),
        microbatches=16,
    ),
)
