"""The posterior of a NumPyro model as a teacher, in coordinates that its own pilot chains choose."""

import functools
import json
import math
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from tqdm import tqdm

from pplemd.dsl import NumpyroModel, numpyro_model, settled
from pplemd.errors import ProgramError
from pplemd.inference import Potential, TiltedTarget
from pplemd.parameterization.fisher import Placement, flat
from pplemd.parameterization.policy import described, parameterize, pooled
from pplemd.storage.compiled import cached_arrays, is_cached
from pplemd.teachers import Posterior

SEED = 0  # of the pilot chains: the coordinates are settled by model, data and versions
DIGITS = 2  # of a chosen lambda: what a chain gains by more cannot be seen
PATIENCE = 2.0  # seconds before a bar is shown
VERSION = 1  # of the choice; raised when a change of code would choose otherwise


def posterior(model: Callable, *args: PyTree, centered: PyTree = "auto", **kwargs: PyTree) -> Posterior:
    """The posterior of a NumPyro model given data, as a teacher.

    Its x are the unconstrained values of all latents, but of those of location-scale families (`Normal`, `StudentT`,
    `Laplace`, `Cauchy`, `Logistic`, `Gumbel`, `MultivariateNormal`, their transforms such as `LogNormal`) whose
    location or scale depends on another latent: of these it is the partially centered coordinate v = lambda mu +
    tau^lambda (theta - mu) / tau of `Centering`. Pilot chains choose lambda, once: a run keeps it. What NumPyro's
    handlers have reparameterized (`LocScaleReparam`, `TransformReparam`) stays as they made it.

    Args:
        model: a NumPyro model; its latents may have any continuous support, and may be reparameterized by NumPyro's
            handlers.
        *args: its arguments: the data.
        centered: "auto" to choose by pilot chains (NUTS; the `Policy` and its Fisher criterion); True for the latents'
            own unconstrained values, False for their noise, a number between; or one of these by site, where an array
            counts by element and sites that are left out are chosen. A model's own argument of this name is given by
            `functools.partial`.
        **kwargs: its arguments: the data.

    Returns:
        A teacher over the flat vector of all coordinates, of the model's exact joint density, log-determinants
        included. Its `constrained` gives draws in the model's own names, deterministic sites included.

    Raises:
        TeacherError: where the model cannot be run with these arguments, has no latent, a latent that is discrete or
            known exactly, a parameter of NumPyro's whose value is not substituted, a subsampled plate, data scored
            more often than they are there, or no start of finite density; where `centered` names a latent that cannot
            be.
        ProgramError: where `centered` is no such number.

    Warns:
        UserWarning: what NumPyro warns of while the model runs, and what is assumed, such as an argument of data that
            is None, so that the data are a latent.
    """
    found = numpyro_model(model, args, kwargs).declared(centered)
    for note in found.notes:
        warnings.warn(f"em.posterior, the model {found.name}: {note}", UserWarning, stacklevel=2)
    settled_model, words = _settled(found)
    lam = settled_model.centering()
    return Posterior(
        name=found.name,
        sites=tuple(sorted((site.name, site.base_shape) for site in found.sites)),
        density=found.at(found.density, lam),
        constrain=found.at(found.values, lam),
        start=flat(found.from_base(None, found.by_site(found.start), lam)),
        notes=found.notes,
        coordinates=words,
    )


def _settled(model: NumpyroModel) -> tuple[NumpyroModel, tuple[str, ...]]:
    """The model with lambdas for all of its eligible sites, as declared, kept by a run or chosen; and why."""
    own = {site.name: site.centered for site in model.sites if site.name in model.said}
    declared = tuple(f"{name}: centered {value}, as declared" for name, value in own.items())
    free = [site.name for site in model.sites if site.free]
    if not free:
        return model, declared
    key = f"centering-{VERSION}-{model.digest}-{own}-{jax.__version__}"
    text, kept = settled(f"{model.name}.centered", lambda: str(_chosen(model, key)["lambdas"]))
    words: tuple[str, ...] = (f"lambda {text}, as the run keeps it",)
    if not kept or (is_cached(key) and str(_chosen(model, key)["lambdas"]) == text):
        words = tuple(str(word) for word in _chosen(model, key)["words"])
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ProgramError(
            f"--set given.{model.name}.centered={text}: expected a number from 0, non-centered, to 1, centered, or "
            f'JSON such as {{"{free[0]}":0.5}}. Leave it out to have it chosen.'
        ) from error
    by_site = found if isinstance(found, dict) else dict.fromkeys(free, found)
    return model.declared({**by_site, **own}), declared + words


def _chosen(model: NumpyroModel, key: str) -> dict[str, np.ndarray]:
    """What pilot chains choose, from the cache where they ran before: lambdas as JSON, and words."""

    def found() -> dict[str, np.ndarray]:
        law = TiltedTarget(flat, Potential(_Energy(model)), _flat_base)
        bar = functools.partial(tqdm, desc=f"pilot chains of {model.name}", delay=PATIENCE, disable=None, leave=False)
        choice, last = parameterize(jax.random.key(SEED), Placement(model, None), law, progress=bar)
        free = {site.name: choice.lam.loc[site.name] for site in model.sites if site.free}
        # lambda 0 or 1 of sites of constant location and scale: the units in which draws have the s.d. nearer to 1
        u = pooled(last.u)
        own = jax.vmap(lambda one: model.from_base(None, one, model.centering(1.0)))(u)
        units = {}
        for name in model.units:
            prior, as_it_is = (float(jnp.exp(jnp.mean(jnp.log(jnp.std(v[name], axis=0))))) for v in (u, own))
            lam = float(abs(math.log(as_it_is)) <= abs(math.log(prior)))
            spread = f"draws' s.d. is {prior:.2g} in units of the prior, {as_it_is:.2g} in its own"
            units[name] = (lam, f"{name}: lambda {lam:g}, a choice of units: {spread}")
        lines = [line for line in described(choice) if line.partition(":")[0] not in (*units, *model.said)]
        # how the last pilot went, in a sentence
        divergences = int(jnp.sum(last.run.diverging))
        went = f"R-hat {float(last.r_hat):.3f}, {divergences} divergences, {1e3 * float(last.rate):.3g} effective draws"
        doubt = "" if bool(last.sound) else "; they do not agree: see `pplemd diagnose`, or say centered="
        mixed = f"pilot chains in the last of these: {went} per 1,000 gradients{doubt}"
        words = [*lines, *(word for _, word in units.values()), mixed]
        lambdas = {**free, **{name: np.asarray(lam) for name, (lam, _) in units.items()}}
        rounded = {name: np.round(np.asarray(loc, np.float64), DIGITS) for name, loc in lambdas.items()}
        shown = {name: each.flat[0] if np.ptp(each) == 0 else each.ravel().tolist() for name, each in rounded.items()}
        as_json = json.dumps(shown, separators=(",", ":"))
        return {"lambdas": np.asarray(as_json), "words": np.asarray(words)}

    return cached_arrays(key, found)


class _Energy(eqx.Module):
    """Minus the log joint density of flat base coordinates."""

    model: NumpyroModel

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return -self.model.log_joint(self.model.by_site(x))


def _flat_base(u: PyTree) -> Float[Array, ""]:
    return jnp.zeros(())
