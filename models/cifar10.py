"""CIFAR-10, 32 x 32: EDM's DDPM++ network is distilled into one step, without classes or by class; or a small one.

Source: EM distillation, arXiv:2405.16852, with K = 4; the paper has no CIFAR-10. Teachers: arXiv:2206.00364, 55.7
million parameters. sigma* = 2.5, learning rates and batch are those of score identity distillation (arXiv:2404.04057).
Teacher: edm-cifar10-32x32-uncond-vp.pkl, or -cond-vp.pkl for the second program, of
https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/ (CC BY-NC-SA 4.0).
Command: pplemd distill models/cifar10.py --program unconditional --teacher edm-cifar10-32x32-uncond-vp.pkl
And: pplemd distill models/cifar10.py --program conditional --teacher edm-cifar10-32x32-cond-vp.pkl
And a small network of the same family, taught here by class on whatever images are given, then distilled:
    pplemd distill models/cifar10.py --program small --set given.data=cifar10.npz --set given.features=resnet20.npz
Expect: of the first two not measured. Papers report, for one step without data: FID 1.92 and 1.71 by class
    (arXiv:2404.04057), 4.53 (arXiv:2305.18455); their teachers 1.97 and 1.79 in 35 steps (arXiv:2206.00364).
"""

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

DDPMPP = {  # the constructor's arguments, by their names in EDM's checkpoints
    "class_name": "EDMPrecond",
    "model_type": "SongUNet",
    "img_resolution": 32,
    "img_channels": 3,
    "model_channels": 128,
    "channel_mult": [2, 2, 2],
    "augment_dim": 9,
    "dropout": 0.13,
}
PUBLISHED = "from https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/"

data = em.given("data", "images of CIFAR-10 and their classes, an .npz of x_train and y_train", default="")
features = em.given("features", "the weights of a classifier of CIFAR-10", default="")
channels = em.given("channels", "the small network's width at 32 x 32; half of it is a laptop's", default="64")
images = em.data.npz(data, test_fraction=0.2) if data else None
evaluation = em.metrics.ImageEvaluation(images, features=em.features(features) if features else None) if data else None


class Cifar(em.Program):
    """x = g(z), z ~ N(0, I): the teacher's denoiser, asked once at sigma*, trained from there."""

    net: em.OneStep

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(self.net.shape), 1.0))
        return em.generate("x", self.net(z))


class CifarByClass(em.Program):
    """x = g(z, label), z ~ N(0, I)."""

    net: em.OneStep

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros(self.net.shape), 1.0))
        return em.generate("x", self.net(z, label))


algorithm = em.EMD(
    chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2)), length=4),
    reparameterization=None,
    generator=em.Adam(learning_rate=1e-5, b1=0.0, b2=0.999),
    score=em.ScoreUpdates(em.Adam(learning_rate=1e-5, b1=0.0, b2=0.999), count=1),
    average=0.9995,
)
training = em.Training(
    steps=50_000,
    batch=256,
    log_every=100,
    sample_every=1000,
    checkpoint_every=1000,
    precision=em.Precision(bf16=True, rematerialise=True),
    microbatches=4,
)

unconditional = em.Model(
    program=lambda teacher, key: Cifar(em.one_step(teacher, sigma=2.5)),
    teacher=em.imported(
        f"EDM's edm-cifar10-32x32-uncond-vp.pkl, {PUBLISHED}", architecture="edm", config={**DDPMPP, "label_dim": 0}
    ),
    algorithm=algorithm,
    training=training,
    evaluation=evaluation,
)
conditional = em.Model(
    program=lambda teacher, key: CifarByClass(em.one_step(teacher, sigma=2.5)),
    teacher=em.imported(
        f"EDM's edm-cifar10-32x32-cond-vp.pkl, {PUBLISHED}", architecture="edm", config={**DDPMPP, "label_dim": 10}
    ),
    algorithm=algorithm,
    training=training,
    evaluation=evaluation,
)

if images is not None:
    SMALL = em.networks.UNetOptions((32, 32, 3), channels=int(channels), multipliers=(1, 2, 2), blocks=2, classes=10)
    small = em.Model(
        program=lambda teacher, key: CifarByClass(em.one_step(teacher, sigma=2.5)),
        teacher=em.teach(
            lambda key: em.networks.SongUNet(SMALL, key=key),
            em.data.mirrored(images),
            training=em.Training(steps=4000, batch=256, precision=em.Precision(bf16=True)),
        ),
        algorithm=em.EMD(
            chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2)), length=2),
            move_latents=False,
            anchor=em.Anchor(count=8192),
            generator=em.Adam(learning_rate=2e-4, final=0.02),
            score=em.ScoreUpdates(em.Adam(learning_rate=4e-4, final=0.02)),
            average=0.996,
        ),
        training=em.Training(steps=1200, batch=128, precision=em.Precision(bf16=True)),
        evaluation=evaluation,
    )
