"""MNIST, 28 x 28, by class: a transformer that others trained, guided, distilled into one step.

Source: EM distillation, arXiv:2405.16852, as models/digits.py; guidance without a classifier (arXiv:2207.12598), of the
teacher alone. The teacher is a pixel transformer trained by flow matching, brought by its path; data and LeNet's
features serve the figures alone, and may be left out.
Command: pplemd distill models/mnist.py --teacher teacher_mnist_vit.npz --set given.data=mnist.npz
    --set given.features=feat_lenet_mnist.npz
Expect: LeNet's Frechet distance .99 (teacher .68), recall .59 (.60), 99.9 % read as the class asked for (seed 0);
    12 minutes of processor time, no GPU.
"""

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

SHAPE, CLASSES = (28, 28, 1), 10
data = em.given("data", "MNIST as an .npz with x_train, y_train, x_test and y_test", default="")
features = em.given("features", "the weights of LeNet-5, an .npz", default="")


class Mnist(em.Program):
    """x = g(z, label), z ~ N(0, I): the teacher's denoiser, asked once at one large sigma, trained from there."""

    net: em.OneStep

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros(SHAPE), 1.0))
        return em.generate("x", self.net(z, label))


mnist = em.Model(
    program=lambda teacher, key: Mnist(em.one_step(teacher, sigma=2.5)),
    teacher=em.imported(
        "a class-conditional pixel transformer of MNIST, with PyTorch's names, as an .npz",
        then=lambda teacher: em.Guided(teacher, em.Guidance(2.0)),
        architecture="pixel_transformer",
        config={"shape": SHAPE, "classes": CLASSES},
    ),
    algorithm=em.EMD(
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2)), length=2),
        move_latents=False,
        anchor=em.Anchor(count=2048),
        generator=em.Adam(learning_rate=1e-3, final=0.02),
        score=em.ScoreUpdates(em.Adam(learning_rate=1e-3, final=0.02)),
        average=0.996,
    ),
    training=em.Training(steps=1000, batch=64),
    evaluation=em.metrics.ImageEvaluation(
        em.data.npz(data), count=10_000, features=em.features(features) if features else None
    )
    if data
    else None,
)
