"""Every mistake in a program that pplemd can name, told at the trace with its place in the user's file."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from pplemd import dsl
from pplemd.conditions import as_condition
from pplemd.errors import PplemdError, ProgramError

# without the type check of the tests, which would speak first: what a user meets
latent: Any = inspect.unwrap(dsl.latent)
generate: Any = inspect.unwrap(dsl.generate)
trace: Any = inspect.unwrap(dsl.trace)

_FILE = "test_errors.py, line "


class Faulty(dsl.Program):
    """Runs the function it holds, so that every case below is one function."""

    weight: jax.Array
    body: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, label: Any = None) -> Any:
        return self.body(self, label)


def _normal(*shape: int) -> dist.Distribution:
    return dist.Normal(jnp.zeros(shape), 1.0)


def _z(self: Faulty) -> jax.Array:
    return latent("z", _normal(2)) * self.weight


def same_name(self: Faulty, label: Any) -> Any:
    z = _z(self)
    return generate("x", z + latent("z", _normal(2)))


def latent_and_output(self: Faulty, label: Any) -> Any:
    return generate("z", _z(self))


def nothing_generated(self: Faulty, label: Any) -> Any:
    return _z(self)


def generated_twice(self: Faulty, label: Any) -> Any:
    generate("x", _z(self))
    return generate("y", self.weight)


def wrong_shape(self: Faulty, label: Any) -> Any:
    return generate("x", jnp.concatenate([_z(self), _z_again()]))


def _z_again() -> jax.Array:
    return latent("again", _normal(1))


def batched(self: Faulty, label: Any) -> Any:
    return generate("x", _z(self)[None])


def half(self: Faulty, label: Any) -> Any:
    return generate("x", _z(self).astype(jnp.float16))


def bfloat(self: Faulty, label: Any) -> Any:
    return generate("x", _z(self).astype(jnp.bfloat16))


def integer(self: Faulty, label: Any) -> Any:
    return generate("x", _z(self).astype(jnp.int32))


def discrete(self: Faulty, label: Any) -> Any:
    z = latent("z", dist.Bernoulli(0.5 * jnp.ones(2)))
    return generate("x", z * self.weight)


def discrete_inside(self: Faulty, label: Any) -> Any:
    z = latent("z", dist.Poisson(jnp.ones(2)).to_event(1))
    return generate("x", z * self.weight)


def delta(self: Faulty, label: Any) -> Any:
    return generate("x", latent("z", dist.Delta(jnp.ones(2))) * self.weight)


def not_a_distribution(self: Faulty, label: Any) -> Any:
    return generate("x", latent("z", jnp.zeros(2)))


def distribution_class(self: Faulty, label: Any) -> Any:
    return generate("x", latent("z", dist.Normal))


def empty_name(self: Faulty, label: Any) -> Any:
    return generate("x", latent("", _normal(2)))


def number_name(self: Faulty, label: Any) -> Any:
    return generate(1, _z(self))


def improper(self: Faulty, label: Any) -> Any:
    z = latent("z", dist.ImproperUniform(dist.constraints.real, (2,), ()))
    return generate("x", z * self.weight)


def no_elements(self: Faulty, label: Any) -> Any:
    return generate("x", self.weight + latent("z", _normal(0)).sum())


def negative_scale(self: Faulty, label: Any) -> Any:
    return generate("x", latent("z", dist.Normal(jnp.zeros(2), -1.0)) * self.weight)


def on_a_sphere(self: Faulty, label: Any) -> Any:
    return generate("x", latent("z", dist.ProjectedNormal(jnp.ones(2))) * self.weight)


def branch(self: Faulty, label: Any) -> Any:
    z = _z(self)
    return generate("x", z if z[0] > 0 else -z)


def numpy_call(self: Faulty, label: Any) -> Any:
    return generate("x", jnp.asarray(np.sin(_z(self))))


def concrete(self: Faulty, label: Any) -> Any:
    return generate("x", self.weight * float(_z(self)[0]))


def traced_size(self: Faulty, label: Any) -> Any:
    return generate("x", jnp.zeros(int(_z(self)[0])))


def boolean_mask(self: Faulty, label: Any) -> Any:
    z = _z(self)
    return generate("x", z[z > 0])


def constant_output(self: Faulty, label: Any) -> Any:
    _z(self)
    return generate("x", 2.0 * self.weight)


def no_latent(self: Faulty, label: Any) -> Any:
    return generate("x", 2.0 * self.weight)


def numpy_output(self: Faulty, label: Any) -> Any:
    _z(self)
    return generate("x", np.zeros(2, np.float32))


def other_return(self: Faulty, label: Any) -> Any:
    return 2.0 * generate("x", _z(self))


def wrong_operands(self: Faulty, label: Any) -> Any:
    return generate("x", _z(self) @ jnp.ones((3, 2)))


def own_error(self: Faulty, label: Any) -> Any:
    raise KeyError("temperature")


def inside_jit(self: Faulty, label: Any) -> Any:
    return generate("x", jax.jit(lambda: latent("z", _normal(2)))())


def inside_vmap(self: Faulty, label: Any) -> Any:
    return generate("x", jax.vmap(lambda i: i * latent("z", dist.Normal(0.0, 1.0)))(jnp.ones(2)))


def inside_scan(self: Faulty, label: Any) -> Any:
    step = lambda c, _: (c + latent("z", _normal(2)), None)  # noqa: E731
    return generate("x", jax.lax.scan(step, self.weight, length=3)[0])


def leaked(self: Faulty, label: Any) -> Any:
    kept: list[jax.Array] = []
    jax.jit(lambda z: kept.append(jnp.sin(z)))(_z(self))
    return generate("x", kept[0] + 1.0)


def observed(self: Faulty, label: Any) -> Any:
    z = _z(self)
    numpyro.sample("y", dist.Normal(z, 1.0), obs=jnp.zeros(2))
    return generate("x", z)


def factor(self: Faulty, label: Any) -> Any:
    numpyro.factor("penalty", self.weight.sum())
    return generate("x", _z(self))


def parameter(self: Faulty, label: Any) -> Any:
    return generate("x", _z(self) * numpyro.param("p", jnp.ones(2)))


# name of the function above: what was found, what repairs it
CASES: dict[Callable[..., Any], tuple[str, str]] = {
    same_name: ("two sites are called 'z' (the first at", "Rename one"),
    latent_and_output: ("two sites are called 'z'", "Rename one"),
    generated_twice: ("second generated value (the first is 'x', at", "Concatenate"),
    wrong_shape: ("has shape (3,); expected the teacher's (2,)", "Change the network's output shape"),
    batched: ("has shape (1, 2)", "Remove the batch dimension"),
    half: ("dtype float16; expected float32", ".astype(jnp.float32)"),
    bfloat: ("dtype bfloat16; expected float32", ".astype(jnp.float32)"),
    integer: ("dtype int32; expected float32", ".astype(jnp.float32)"),
    discrete: ("discrete distribution Bernoulli", "continuous relaxation"),
    discrete_inside: ("discrete distribution Poisson", "continuous relaxation"),
    delta: ("discrete distribution Delta", "continuous relaxation"),
    not_a_distribution: ("latent 'z' was given a", "dist.Normal"),
    distribution_class: ("the class Normal itself", "dist.Normal"),
    empty_name: ("the name ''", 'latent("z", ...)'),
    number_name: ("the name 1", 'generate("x", ...)'),
    improper: ("cannot be drawn or scored under ImproperUniform", "proper prior"),
    no_elements: ("shape (0,), which holds no element", "Check the shape"),
    negative_scale: ("found ValueError: Normal distribution got invalid scale parameter", "Repair that line"),
    on_a_sphere: ("cannot be drawn or scored under ProjectedNormal", "proper prior"),
    branch: ("branch (if, while, and, or) on a traced value", "jnp.where"),
    numpy_call: ("NumPy applied to a traced value", "Replace np by jnp"),
    concrete: ("a traced value where Python needs a concrete one", "jnp.where"),
    traced_size: ("a traced value where Python needs a concrete one", "field"),
    boolean_mask: ("a traced value where Python needs a concrete one", "jnp.where"),
    constant_output: ("depends on no latent", "Pass a latent"),
    no_latent: ("depends on no latent", "Pass a latent"),
    numpy_output: ("generate 'x' was given a ndarray", "Pass the array that the network returned"),
    wrong_operands: ("found TypeError", "shapes are those of one sample"),
    own_error: ("found KeyError: 'temperature'", "Repair that line"),
    inside_jit: ("inside of a JAX transformation", "Declare one site of the full shape"),
    inside_vmap: ("inside of a JAX transformation", "Declare one site of the full shape"),
    inside_scan: ("inside of a JAX transformation", "Declare one site of the full shape"),
    observed: ("site 'y' is observed", "Remove the observation"),
    factor: ("site 'penalty' is observed", "Remove the observation"),
    parameter: ("NumPyro parameter 'p'", "Make it a field"),
}
# these have no one line: their place is __call__ of the class
WHOLE: dict[Callable[..., Any], tuple[str, str]] = {
    nothing_generated: ("generated nothing", 'return generate("x", value)'),
    leaked: ("a traced value that left its transformation", "Return the value"),
    other_return: ("returned something other than the generated value", 'return generate("x", value)'),
}


def _message(body: Callable[..., Any]) -> str:
    with pytest.raises(ProgramError) as caught:
        trace(Faulty(jnp.ones(2), body), shape=(2,))
    return str(caught.value)


@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_a_mistake_in_the_program(body: Callable[..., Any]) -> None:
    found, repair = CASES[body]
    message = _message(body)
    assert found in message
    assert repair in message
    place, code = message.split(": ", 1)[0], body.__code__
    line = int(place.split(", line ")[1].split(",")[0])
    # nothing but blank lines lies between two functions: the place is a line of this one
    assert _FILE in place
    last = max(line for _, _, line in code.co_lines() if line is not None)
    assert code.co_firstlineno <= line <= last
    assert body.__name__ in place or "<lambda>" in place


@pytest.mark.parametrize("body", WHOLE, ids=lambda body: body.__name__)
def test_a_mistake_of_the_program_as_a_whole(body: Callable[..., Any]) -> None:
    found, repair = WHOLE[body]
    message = _message(body)
    assert found in message
    assert repair in message
    assert f"{_FILE}{Faulty.__call__.__code__.co_firstlineno}, in Faulty.__call__: " in message


def test_the_cause_is_kept() -> None:
    with pytest.raises(ProgramError) as caught:
        trace(Faulty(jnp.ones(2), own_error), shape=(2,))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_mistake_inside_of_a_library_is_placed_at_the_users_line() -> None:
    """The innermost frame lies in Equinox; the place is the line that called the network."""

    class Wide(dsl.Program):
        net: eqx.nn.MLP

        def __call__(self) -> Any:
            return generate("x", self.net(latent("z", _normal(5))))

    with pytest.raises(ProgramError, match=rf"{_FILE}\d+, in Wide\.__call__: found "):
        trace(Wide(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))), shape=(3,))


def test_precision_is_the_one_that_jax_is_set_to() -> None:
    def output(self: Faulty, label: Any) -> Any:
        return generate("x", latent("z", dist.Normal(jnp.zeros(2), 1.0)) * self.weight)

    with jax.enable_x64(True):
        with pytest.raises(ProgramError, match="generated 'x' has dtype float64; expected float32"):
            trace(Faulty(jnp.ones(2), output), shape=(2,))
        assert trace(Faulty(jnp.ones(2), output), shape=(2,), dtype=jnp.float64).sites[0].dtype == jnp.float64


def test_returning_nothing_is_fine() -> None:
    def silent(self: Faulty, label: Any) -> Any:
        generate("x", _z(self))

    assert trace(Faulty(jnp.ones(2), silent), shape=(2,)).output.name == "x"


@pytest.mark.parametrize(("declare", "name"), [(latent, "latent"), (generate, "generate")])
def test_declarations_outside_of_a_trace(declare: Callable[..., Any], name: str) -> None:
    value = _normal(2) if name == "latent" else jnp.zeros(2)
    with pytest.raises(ProgramError, match=rf"{_FILE}\d+.*: {name} was called outside of a trace"):
        declare("z", value)


def test_a_failed_trace_leaves_no_handler_behind() -> None:
    _message(own_error)
    with pytest.raises(ProgramError, match="outside of a trace"):
        latent("z", _normal(2))


class WithLabel(dsl.Program):
    weight: jax.Array

    def __call__(self, label: Any) -> Any:
        return generate("x", _z(self) + label.astype(jnp.float32))


class WithoutLabel(dsl.Program):
    weight: jax.Array

    def __call__(self) -> Any:
        return generate("x", _z(self))


class MaybeLabel(dsl.Program):
    weight: jax.Array

    def __call__(self, label: Any = None) -> Any:
        shift = 0.0 if label is None else label.astype(jnp.float32)
        return generate("x", _z(self) + shift)


class OtherArgument(dsl.Program):
    weight: jax.Array

    def __call__(self, temperature: Any) -> Any:
        return generate("x", temperature * _z(self))


class MoreArguments(dsl.Program):
    weight: jax.Array

    def __call__(self, label: Any, *, scale: float = 1.0) -> Any:
        return generate("x", scale * _z(self))


class NothingToTrain(dsl.Program):
    weight: Any

    def __call__(self) -> Any:
        return generate("x", _z(self))


class Unrelated:
    """No program."""


@pytest.mark.parametrize(
    ("program", "classes", "found"),
    [
        (
            WithLabel(jnp.ones(2)),
            None,
            "WithLabel.__call__ needs 'label', but the teacher has no condition",
        ),
        (
            WithoutLabel(jnp.ones(2)),
            3,
            "takes no condition, but the teacher is conditioned on one of 3 classes",
        ),
        (OtherArgument(jnp.ones(2)), None, "needs 'temperature', but the teacher has no condition"),
        (MoreArguments(jnp.ones(2)), 3, "expected (self) or (self, condition)"),
        (NothingToTrain(np.ones(2, np.float32)), None, "NothingToTrain holds no trainable array"),
        (NothingToTrain(jnp.ones(2, jnp.int32)), None, "NothingToTrain holds no trainable array"),
        (WithoutLabel, None, "Found the class WithoutLabel itself; expected an instance"),
        (Unrelated(), None, "Found a Unrelated; expected an instance of a pplemd Program"),
        (MaybeLabel(jnp.ones(2)), 0, "found classes=0"),
    ],
)
def test_a_program_that_cannot_be_called(program: Any, classes: int | None, found: str) -> None:
    with pytest.raises(PplemdError) as caught:
        trace(program, shape=(2,), condition=as_condition(classes))
    assert found in str(caught.value)


def test_a_shape_of_the_teacher_must_be_positive() -> None:
    with pytest.raises(ProgramError, match="positive integers"):
        trace(WithoutLabel(jnp.ones(2)), shape=(2, 0))


@pytest.mark.parametrize("classes", [None, 3])
def test_a_label_with_a_default_fits_both_teachers(classes: int | None) -> None:
    problem = trace(MaybeLabel(jnp.ones(2)), shape=(2,), condition=as_condition(classes))
    assert problem.output.conditioned == (classes is not None)
    assert problem.classes == classes
