"""What a NumPyro model must be to have a posterior of one density over unconstrained latents."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from pplemd.dsl.graph import known, split_parameters
from pplemd.dsl.support import check_probability, or_nan, support_of
from pplemd.dsl.transport import innermost
from pplemd.errors import TeacherError

Sites = Mapping[str, dict[str, Any]]  # as numpyro.handlers.trace records them


def is_latent(message: dict[str, Any]) -> bool:
    """Whether a site is drawn."""
    return message["type"] == "sample" and not message["is_observed"]


def is_declared(sites: Sites, name: str) -> bool:
    """Whether a latent is what NumPyro's LocScaleReparam or TransformReparam makes of a site: its user chose it."""
    made = [name.removesuffix(suffix) for suffix in ("_decentered", "_base") if name.endswith(suffix)]
    return any(site in sites and sites[site]["type"] == "deterministic" for site in made)


def check_sites(name: str, sites: Sites, given: set[str], left_out: Mapping[str, str]) -> list[str]:
    """Refuse what has no density over unconstrained latents, and shapes that NumPyro warns of.

    Args:
        name: the model's.
        sites: of its first run.
        given: sites whose values the user's handlers substitute.
        left_out: latents that are data, and the argument that was not given.

    Returns:
        What is assumed, in sentences.

    Raises:
        TeacherError: there is something of the kind.
    """
    notes = [
        f"argument {argument}=None was left out, so that {site!r} is a latent here, drawn from its prior with the "
        "others; give it where it is data"
        for site, argument in left_out.items()
    ]
    for site, message in sites.items():
        if message["type"] == "param" and site not in given:
            raise TeacherError(f"the model {name} has the NumPyro parameter {site!r}; {_param_repair(site)}")
        if message["type"] == "plate" and message["args"][1] not in (None, message["args"][0]):
            size, part = message["args"]
            raise TeacherError(
                f"the plate {site!r} of the model {name} takes {part} of {size} data at random; expected all of them, "
                "since the teacher has one density. Leave subsample_size out."
            )
        if message["type"] == "sample":
            notes += _check_shape(name, site, message)
        if is_latent(message):
            _check_latent(name, site, message["fn"], left_out.get(site))
            if site in given:
                notes.append(
                    f"{site!r} has a substituted value and is a latent all the same, as for NumPyro's NUTS; "
                    "numpyro.handlers.condition fixes it"
                )
    if not any(is_latent(message) for message in sites.values()):
        raise TeacherError(
            f"the model {name} has no latent: every site of {sorted(sites)} is observed or deterministic; expected at "
            "least one numpyro.sample without obs."
        )
    return notes


def check_data(name: str, sites: Sites, at: Callable[[dict[str, Array]], Sites]) -> None:
    """See that observed data lie where their distributions have a density.

    Args:
        name: of the model.
        sites: its sites.
        at: the sites, where the latents have other values.

    Raises:
        TeacherError: data outside of a support that depends on no latent, or a probability above 1.
    """
    latents = {site: message["value"] for site, message in sites.items() if is_latent(message)}
    observed = {site: m["fn"] for site, m in sites.items() if m["type"] == "sample" and m["is_observed"]}
    laws = {site: split_parameters(law) for site, law in observed.items() if law.support is not None}

    def met(_: Any, values: dict[str, Array]) -> list[list[Any]]:
        found = at(values)
        return [[*law.arrays(found[site]["fn"]), found[site]["value"]] for site, (law, _) in laws.items()]

    parts = iter(known(met, (), latents))
    for site, (law, own) in laws.items():
        *arrays, data = (next(parts) for _ in range(len(own) + 1))
        support = support_of(law, [or_nan(array) for array in arrays])
        fault = None if isinstance(data, jax.ShapeDtypeStruct) else support.fault(data)
        if fault is not None:
            raise TeacherError(f"the observed site {site!r} of the model {name} {fault}")
        if support.discrete and not support.moving:
            check_probability(observed[site].log_prob(sites[site]["value"]), site, TeacherError)


def _param_repair(site: str) -> str:
    if site.endswith("_centered"):  # of LocScaleReparam() without a number
        latent = site.removesuffix("_centered")
        return (
            "expected latents and data only. It is how centered LocScaleReparam learns to make a latent; a posterior "
            f"learns nothing: say a number, {{{latent!r}: LocScaleReparam(centered=0)}}, or substitute its value, "
            f"numpyro.handlers.substitute(model, data={{{site!r}: 0.5}})."
        )
    return (
        "expected latents and data only. Give it a prior (numpyro.sample), or substitute its value: "
        f"numpyro.handlers.substitute(model, data={{{site!r}: value}})."
    )


def _check_shape(name: str, site: str, message: dict[str, Any]) -> list[str]:
    """Refuse a site that is scored more often than it has values, and axes in a plate that no plate accounts for.

    The second is what NumPyro warns of ("Missing a plate statement"). One number as the data of many distributions is
    told.
    """
    law, shape = message["fn"], np.shape(message["value"])
    rows = shape[: max(len(shape) - len(law.event_shape), 0)]
    try:
        batch = np.broadcast_shapes(law.batch_shape, rows)
    except ValueError:
        return []  # NumPyro's own error, when the density is evaluated
    scored = f"the log density of site {site!r} of the model {name} is of shape {batch}"
    laws = f"the {type(innermost(law)).__name__} is of shape {law.shape()}"
    if message["is_observed"] and rows and math.prod(batch) > math.prod(rows):
        raise TeacherError(
            f"{scored}: its data are of shape {shape}, {laws}, so that each value is scored "
            f"{math.prod(batch) // math.prod(rows)} times. Give both the same shape: reshape the data, or index the "
            "parameters."
        )
    dims = {frame.dim for frame in message["cond_indep_stack"]}
    axes = set(range(-len(batch), 0)) - dims - ({-len(batch)} if message.get("_control_flow_done") else set())
    missing = [axis for axis in sorted(axes) if batch[axis] > 1]
    if dims and missing:
        raise TeacherError(
            f"{scored} (its value is of shape {shape}, {laws}); its axis {missing[0]}, of {batch[missing[0]]}, belongs "
            'to none of its plates (NumPyro: "Missing a plate statement"). Give the data and the law the plate\'s own '
            "shape, make the axis part of one value by .to_event(1), or declare a plate for it."
        )
    if message["is_observed"] and math.prod(batch) > math.prod(rows):
        return [f"{site!r} has one value as the data of all {math.prod(batch)} laws"]
    return []


def _check_latent(name: str, site: str, distribution: dist.Distribution, argument: str | None) -> None:
    core = innermost(distribution)
    kind = type(core).__name__
    if core.support is not None and core.support.is_discrete:
        if argument is not None:
            raise TeacherError(
                f"the model {name} was run without data: its argument {argument!r} is None, so that {site!r}, a "
                f"{kind}, would be a latent. Give the data: em.posterior({name}, ..., {argument}=...)."
            )
        raise TeacherError(
            f"the latent {site!r} of the model {name} has the discrete distribution {kind}; expected continuous "
            f"latents, since the student moves along gradients. If {site!r} is data, its obs was None: give the data "
            "(where some are missing, numpyro.handlers.mask in place of obs_mask). Else sum it out, for example by "
            "dist.MixtureSameFamily."
        )
    if isinstance(core, dist.Delta):
        raise TeacherError(
            f"the latent {site!r} of the model {name} is a point mass (Delta); expected a density. Use "
            "numpyro.deterministic."
        )
