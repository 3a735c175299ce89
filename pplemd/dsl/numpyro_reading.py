"""How the model of a NumPyro user is run for its one trace, and what it tells while it runs."""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpyro import handlers
from numpyro.infer import init_to_uniform
from numpyro.primitives import Messenger

from pplemd.dsl.locations import place_of
from pplemd.dsl.masks import imputed, unmask
from pplemd.errors import TeacherError


class Reading(Messenger):
    """The handler around a model and the handlers that its user put around it.

    It makes data JAX's arrays: NumPyro compares NumPy's with traced bounds by NumPy, which fails.

    Attributes:
        given: parameters and latents whose values those handlers substitute.
    """

    def __init__(self, model: Callable) -> None:
        super().__init__(model)
        self.given: set[str] = set()
        self._before: str | None = None  # the observation just before

    def process_message(self, msg: Any) -> None:
        """Note what has a value; give what `obs_mask` imputes its whole law (see `masks.unmasked`)."""
        if msg["type"] == "param" and msg["value"] is not None:
            self.given.add(msg["name"])
        if msg["type"] != "sample":
            return
        if msg["is_observed"]:
            self._before, msg["value"] = msg["name"], jnp.asarray(msg["value"])
            return
        if msg["value"] is not None:
            self.given.add(msg["name"])
        if imputed(msg["name"], self._before):
            msg["fn"] = unmask(msg["fn"])


def first_run(model: Callable, key: PRNGKeyArray, args: tuple, kwargs: Mapping[str, Any]) -> tuple[dict, Reading]:
    """Run a model with each latent at a random value of its support, as NumPyro's NUTS starts: priors may be improper.

    Returns:
        Its sites as NumPyro records them, and the handler that saw them.
    """

    def start(site: Any) -> Any:
        return None if site["value"] is not None else init_to_uniform(site)

    reading = Reading(model)
    started = handlers.substitute(handlers.seed(reading, key), substitute_fn=start)
    return dict(handlers.trace(started).get_trace(*args, **kwargs)), reading


@contextlib.contextmanager
def ran(name: str, warned: list[str]) -> Iterator[None]:
    """Run a model under NumPyro's own rules of types and ranks; its errors are told as mistakes of the model.

    Args:
        name: the model's.
        warned: what it warns of is put here, each sentence once.
    """
    try:
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("ignore")  # of what will be deprecated, whose place is not the user's
            for kind in (UserWarning, RuntimeWarning, FutureWarning):
                warnings.simplefilter("always", kind)
            yield
    except TeacherError:
        raise
    except Exception as error:
        message = str(error).strip().split("\n", 1)[0].rstrip(".")
        raise TeacherError(
            f"{place_of(error)}: the model {name} raised {type(error).__name__}: {message}; expected it to run with "
            "the arguments given to em.posterior(model, *args, **kwargs). Give the data that the model takes."
        ) from error
    warned += [word for word in dict.fromkeys(str(one.message) for one in caught) if word not in warned]


def left_out(
    model: Callable, key: PRNGKeyArray, args: tuple, kwargs: Mapping[str, Any], latents: list[str]
) -> dict[str, str]:
    """Which latents are data that were not given: latent -> the argument, None, that they would have come by.

    Each argument that is None is replaced by something, to see which latent it makes an observation. Where the model
    does not run with it, a latent of the argument's own name is taken for it.

    Args:
        model: the model.
        key: of its run.
        args: its arguments.
        kwargs: the same.
        latents: names of its latents.
    """
    try:
        bound = inspect.signature(model).bind(*args, **kwargs)
    except (TypeError, ValueError):  # no signature: a function of C
        return {}
    bound.apply_defaults()
    found: dict[str, str] = {}
    for argument in [name for name, value in bound.arguments.items() if value is None]:
        for stand_in in (object(), np.ones(())):  # the second where the model makes it an array first
            bound.arguments[argument] = stand_in
            observed, whole = _observed(handlers.seed(model, key), bound)
            if whole or not observed.isdisjoint(latents):
                break
        bound.arguments[argument] = None
        found |= dict.fromkeys(observed if whole else observed | {argument}, argument)
    return {site: found[site] for site in latents if site in found}


def _observed(model: Callable, bound: inspect.BoundArguments) -> tuple[set[str], bool]:
    """Names of a model's observations as far as it runs, and whether it runs to its end."""
    sites, whole = handlers.trace(handlers.substitute(model, substitute_fn=init_to_uniform)), False
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        sites(*bound.args, **bound.kwargs)
        whole = True
    return {name for name, site in sites.trace.items() if site.get("is_observed")}, whole
