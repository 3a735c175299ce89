"""Forms of conditions: shapes, null values, and how often a condition is dropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.conditions import Arrays, Classes, Tokens, as_condition, classes_of, dropped, same_shapes
from pplemd.errors import RecipeError

FORMS = [Classes(3), Tokens(4, 100), Arrays({"image": (2, 2, 1), "age": ()}, empty=-1.0)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_a_null_value_is_of_its_form(form):
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), form.shapes)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), form.null) == shapes
    assert form.words
    assert hash(form) == hash(type(form)(**vars(form)))  # static in what is compiled


def test_what_stands_for_no_condition():
    assert Classes(3).null == -1
    assert not Tokens(4, 100).null["mask"].any()
    np.testing.assert_array_equal(Arrays({"image": (2,)}, empty=0.5).null["image"], [0.5, 0.5])


def test_a_number_is_that_of_classes():
    assert as_condition(3) == Classes(3)
    assert as_condition(None) is None
    assert [classes_of(form) for form in (*FORMS, None)] == [3, None, None, None]


def test_forms_agree_where_their_values_do():
    assert same_shapes(Tokens(4, 100), Tokens(4, 7))
    assert not same_shapes(Tokens(4, 100), Tokens(5, 100))
    assert not same_shapes(Classes(3), Classes(4))
    assert not same_shapes(Classes(3), None)
    assert same_shapes(None, None)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_conditions_are_dropped_at_the_rate_as_a_whole_while_training_alone(form):
    value = jax.tree.map(lambda null: np.ones_like(null), form.null)
    keys = jax.random.split(jax.random.key(0), 2000)
    found = jax.vmap(lambda key: dropped(value, form.null, 0.25, key))(keys)
    null = [np.all(np.asarray(leaf) == none, axis=tuple(range(1, leaf.ndim))) for leaf, none in
            zip(jax.tree.leaves(found), jax.tree.leaves(form.null), strict=True) if not (none == 1).all()]  # fmt: skip
    assert all((one == null[0]).all() for one in null)
    assert abs(np.mean(null[0]) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)
    assert dropped(value, form.null, 0.25, None) is value
    assert dropped(None, form.null, 0.25, keys[0]) is None


@pytest.mark.parametrize("build", [lambda: Classes(0), lambda: Tokens(0, 3), lambda: Tokens(3, 0)])
def test_impossible_forms_are_refused(build):
    with pytest.raises(RecipeError, match="found"):
        build()


def test_values_keep_their_types_where_they_are_dropped():
    found = dropped(jnp.asarray(2, jnp.int32), Classes(3).null, 0.5, jax.random.key(0))
    assert found.dtype == jnp.int32
