"""FFHQ faces, 64 x 64: EDM's DDPM++ network is distilled into one step.

Source: EM distillation, arXiv:2405.16852, with K = 4; the paper has no FFHQ. Teacher: arXiv:2206.00364, 61.8 million
parameters. sigma* = 2.5 and learning rates are those of score identity distillation (arXiv:2404.04057).
Teacher: edm-ffhq-64x64-uncond-vp.pkl of https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/ (CC BY-NC-SA 4.0).
Command: pplemd distill models/ffhq64.py --teacher edm-ffhq-64x64-uncond-vp.pkl
Expect: not measured. Papers report, as far as they are recalled, FID 1.55 for one step without data (arXiv:2404.04057),
and 2.39 for this teacher in 79 steps (arXiv:2206.00364).
"""

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

DDPMPP = {  # the constructor's arguments, by their names in EDM's checkpoint
    "class_name": "EDMPrecond",
    "model_type": "SongUNet",
    "img_resolution": 64,
    "img_channels": 3,
    "label_dim": 0,
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "augment_dim": 9,
    "dropout": 0.05,
}


class Faces(em.Program):
    """x = g(z), z ~ N(0, I): the teacher's denoiser, asked once at sigma*, trained from there."""

    net: em.OneStep

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(self.net.shape), 1.0))
        return em.generate("x", self.net(z))


ffhq64 = em.Model(
    program=lambda teacher, key: Faces(em.one_step(teacher, sigma=2.5)),
    teacher=em.imported(
        "EDM's edm-ffhq-64x64-uncond-vp.pkl, from https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/",
        architecture="edm",
        config=DDPMPP,
    ),
    algorithm=em.EMD(
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2)), length=4),
        reparameterization=None,
        generator=em.Adam(learning_rate=1e-5, b1=0.0, b2=0.999),
        score=em.ScoreUpdates(em.Adam(learning_rate=1e-5, b1=0.0, b2=0.999), count=1),
        average=0.9995,
    ),
    training=em.Training(
        steps=100_000,
        batch=128,
        log_every=100,
        sample_every=1000,
        checkpoint_every=1000,
        precision=em.Precision(bf16=True, rematerialise=True),
        microbatches=4,
    ),
)
