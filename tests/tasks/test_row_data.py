"""Data as arguments: rows of columns as minibatches, whole columns, and what a compiled step holds of them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.errors import CheckpointError, DataError, ProgramError
from pplemd.learning import first_window
from pplemd.tasks.fit import data_digest
from pplemd.tasks.fit_results import posteriors

RNG = np.random.default_rng(0)
SIDE, LATENTS = 6, 2


class Images(em.Program):
    """A decoder of images of 0 and 1, declared for one of them."""

    decoder: em.networks.MLP

    def __call__(self, image):
        z = em.latent("z", dist.Normal(jnp.zeros(LATENTS), 1.0).to_event(1))
        logits = self.decoder(z)
        em.observe("image", dist.Bernoulli(logits=logits).to_event(3), image)
        return em.generate("x", jax.nn.sigmoid(logits))


def bars(count: int) -> np.ndarray:
    """Images of one bright column or row each, with noise."""
    where, across = RNG.integers(SIDE, size=count), RNG.random(count) < 0.5
    images = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    images[np.arange(count), where] = 1
    images[across] = images[across].swapaxes(1, 2)
    return images ^ (RNG.random(images.shape) < 0.02)


def images_fit(images, algorithm=None) -> em.Fit:
    def program(key):
        return Images(em.networks.MLP((LATENTS,), (SIDE, SIDE, 1), width=32, depth=3, key=key))

    kernel = em.Chain(em.HMC(leapfrogs=3), length=1, cancel=em.Cancellation.NONE)
    return em.Fit(
        program=program,
        data={"image": images},
        algorithm=algorithm
        or em.MonteCarloEM(minibatches=True, chain=kernel, reparameterization=None, optimiser=em.Adam(1e-2, clip=0.0)),
        training=em.Training(steps=200, batch=64),
    )


def steps_of(fit: em.Fit, count: int):
    """So many steps: the last state and the metrics of each."""
    work = fit.plan().assemble()
    state, found, advance = work.initial(), [], eqx.filter_jit(work.step)
    for number in range(count):
        state, metrics = advance(state, jax.random.fold_in(work.key, number))
        found.append({name: float(one) for name, one in metrics.items()})
    return work, state, found


def lowered(fit: em.Fit) -> str:
    """The program of a step, as StableHLO text."""
    work = fit.plan().assemble()
    state = work.initial()
    held = eqx.filter_jit(lambda step, state, key: step(state, key))
    return held.lower(work.step, state, work.key).as_text()


@pytest.mark.slow
def test_a_decoder_of_rows_learns_from_minibatches():
    work, state, found = steps_of(images_fit(bars(2000)), 200)
    (plate,), (site,) = work.step.context.problem.plates, work.step.context.problem.sites
    assert (plate.name, plate.size, plate.rows, site.shape) == ("rows", 2000, 1, (LATENTS,))
    assert state.memory["z"].shape == (2000, LATENTS)
    first, last = (np.mean([one["log_joint"] for one in found[part]]) for part in (slice(0, 10), slice(-10, None)))
    assert last > first + 5, (first, last)  # from 36 log 2 = 25 nats of a fair coin
    fitted = work.result(state)
    assert fitted.shape == (SIDE, SIDE, 1)
    assert fitted.sample(work.key, 5).shape == (5, SIDE, SIDE, 1)
    assert fitted.simulate(work.key, 3)["image"].shape == (3, SIDE, SIDE, 1)
    some = posteriors(fitted, 4)
    drawn = some.chains(work.key, fitted.centering, em.HMC(0.1, leapfrogs=2), (2, 20, 4))
    assert drawn.values["z"].shape == (2, 4, 4, LATENTS)


@pytest.mark.slow
def test_rows_of_columns_are_those_of_a_plate():
    """The same program as rows of a plate, whose data it closes over: the same step."""
    images = bars(300)

    class Plated(em.Program):
        decoder: em.networks.MLP

        def __call__(self):
            with em.plate("images", len(images)) as rows:
                z = em.latent("z", dist.Normal(jnp.zeros((len(rows), LATENTS)), 1.0).to_event(1))
                logits = jax.vmap(self.decoder)(z)
                em.observe("image", dist.Bernoulli(logits=logits).to_event(3), jnp.asarray(images)[rows])

    by_row = images_fit(images)
    plated = em.Fit(
        program=lambda key: Plated(by_row.program(key).decoder), algorithm=by_row.algorithm, training=by_row.training
    )
    (_, one, found), (_, other, expected) = steps_of(by_row, 3), steps_of(plated, 3)
    for mine, known in zip(found, expected, strict=True):
        assert mine["log_joint"] == pytest.approx(known["log_joint"], rel=1e-4)
    np.testing.assert_allclose(one.memory["z"], other.memory["z"][:, 0], rtol=1e-3, atol=1e-4)


class Levels(em.Program):
    """Whole columns: levels of groups, and the data of all rows at once."""

    mean: jax.Array

    def __call__(self, group, y):
        level = em.latent("level", dist.Normal(self.mean * jnp.ones(5), 1.0))
        em.observe("y", dist.Normal(level[group], 1.0), y)


def table(count: int) -> dict[str, np.ndarray]:
    group = np.arange(count) % 5
    return {"group": group, "y": (group + RNG.normal(size=count)).astype(np.float32)}


def levels_fit(data) -> em.Fit:
    return em.Fit(program=lambda key: Levels(jnp.zeros(())), data=data)


def closed_over_fit(data) -> em.Fit:
    class Closed(em.Program):
        mean: jax.Array

        def __call__(self):
            level = em.latent("level", dist.Normal(self.mean * jnp.ones(5), 1.0))
            fitted_to = jax.jit(lambda level: level[data["group"]])(level)  # a call that holds data of its own
            em.observe("y", dist.Normal(fitted_to, 1.0), data["y"])

    return em.Fit(program=lambda key: Closed(jnp.zeros(())))


@pytest.mark.slow
def test_the_compiled_step_does_not_grow_with_the_data():
    """Rows of columns, whole columns, and data that a program closes over, in calls too."""
    for made in (lambda n: images_fit(bars(n)), lambda n: levels_fit(table(n)), lambda n: closed_over_fit(table(n))):
        small, some, large = (len(lowered(made(count))) for count in (600, 2000, 60_000))
        assert abs(large - small) < 0.01 * small, (small, large)
        assert abs(large - some) < 0.002 * some, (some, large)  # of 600, jax.random.choice shuffles a round less


def test_whole_columns_are_what_a_program_closes_over():
    data = table(400)
    found, expected = (one.plan().problem for one in (levels_fit(data), closed_over_fit(data)))
    program, u = Levels(jnp.asarray(0.5)), {"level": jnp.arange(5.0)}
    known = np.sum(dist.Normal(0.5 + np.arange(5.0)[data["group"]], 1.0).log_prob(data["y"]))
    assert found.log_likelihood(program, u) == pytest.approx(float(known), rel=1e-5)
    closed = closed_over_fit(data).program(None)
    again = em.Fit(program=lambda key: closed).plan().problem
    assert again.log_likelihood(eqx.tree_at(lambda p: p.mean, closed, program.mean), u) == pytest.approx(
        float(known), rel=1e-5
    )
    assert {one.shape for one in expected.inputs.constants} == {(400,)}
    assert not found.inputs.constants


@pytest.mark.slow
def test_a_memory_mapped_column_stays_on_the_host(tmp_path):
    images = bars(500)
    np.save(tmp_path / "image.npy", images)
    mapped = em.data.columns(tmp_path)
    assert isinstance(mapped["image"], np.memmap)
    on_host, in_memory = images_fit(mapped["image"]), images_fit(images)
    problem = on_host.plan().problem
    assert not any(np.ndim(leaf) > 3 for leaf in jax.tree.leaves(problem))
    (_, one, found), (_, other, expected) = steps_of(on_host, 3), steps_of(in_memory, 3)
    assert [one["log_joint"] for one in found] == pytest.approx([one["log_joint"] for one in expected], rel=1e-5)
    np.testing.assert_allclose(one.memory["z"], other.memory["z"], rtol=1e-4, atol=1e-5)
    assert data_digest(on_host.plan()) == data_digest(in_memory.plan())
    broken = images.copy()
    broken[7] = 2
    np.save(tmp_path / "image.npy", broken)
    with pytest.raises(ProgramError, match="outside of the support of its Bernoulli"):
        images_fit(em.data.columns(tmp_path)["image"]).plan()


def test_the_digest_covers_the_data():
    data = table(50)
    other = {**data, "y": data["y"] + np.float32(1)}
    for made in (levels_fit, closed_over_fit):
        assert data_digest(made(data).plan()) == data_digest(made(dict(data)).plan())
        assert data_digest(made(data).plan()) != data_digest(made(other).plan())


class Counts(em.Program):
    """Successes among tries, both of a row; a mask of what was seen."""

    logit: jax.Array

    def __call__(self, tries, won, seen):
        z = em.latent("z", dist.Normal(0.0, 1.0))
        law = dist.Binomial(tries, logits=(self.logit + z) * jnp.ones(3)).mask(seen)
        em.observe("won", law, won)


@pytest.mark.slow
def test_bounds_and_masks_of_rows_are_their_own():
    tries, won = np.array([3, 10, 5]), np.array([[1, 2, 3], [7, 10, 0], [5, 5, 0]])
    seen = np.ones((3, 3), bool)

    def planned(**changes):
        data = {"tries": tries, "won": won, "seen": seen, **changes}
        return em.Fit(lambda key: Counts(jnp.zeros(())), data, em.MonteCarloEM(minibatches=True)).plan()

    problem = planned().problem
    found = problem.at({"rows": jnp.array([1])}).log_likelihood(Counts(jnp.zeros(())), {"z": jnp.zeros(())})
    assert found == pytest.approx(float(dist.Binomial(10, 0.5).log_prob(won[1]).sum()), rel=1e-5)
    more = won.copy()
    more[0, 1] = 4
    with pytest.raises(ProgramError, match=r"1 of 9 values outside .*4, at \(0, 1\)\).*from 0 to 3"):
        planned(won=more)
    hidden = seen.copy()
    hidden[0, 1] = False
    planned(won=more, seen=hidden)
    with pytest.raises(ProgramError, match="was traced for data 'seen' of shape.*problem.at"):
        problem.log_likelihood(Counts(jnp.zeros(())), {"z": jnp.zeros(())})


class Plates(em.Program):
    """A plate in a program of rows."""

    mean: jax.Array

    def __call__(self, y, offset=0.0):
        with em.plate("all", len(y)):
            z = em.latent("z", dist.Normal(self.mean * jnp.ones(len(y)), 1.0))
            em.observe("y", dist.Normal(z + offset, 1.0), y)


@pytest.mark.parametrize(
    ("data", "rows", "error", "words"),
    [
        ({}, None, ProgramError, "takes 'y', of which there are no data; found no data"),
        ({"x": np.ones(3)}, None, ProgramError, "takes 'y', of which there are no data; found the columns 'x'"),
        ({"y": np.ones(3), "x": 1.0}, None, ProgramError, "data 'x', which Plates.__call__ does not take"),
        ({"y": np.array(["a", "b"])}, None, DataError, "column 'y' is an array of <U1; expected an array of numbers"),
        ({"y": np.array([{}])}, None, DataError, "column 'y' is an array of object; expected an array of numbers"),
        ({"y": np.array([1, 2**40])}, None, DataError, "has whole numbers from 1 to 1099511627776"),
        ({"y": np.ones((3, 2)), "offset": np.ones(4)}, 2, DataError, "lengths 'y' 3, 'offset' 4; expected one"),
        ({"y": np.ones((3, 2)), "offset": 1.0}, 2, DataError, "'offset' a scalar; expected one length"),
        ({"y": np.ones((3, 2))}, 2, ProgramError, "plate 'all' stands in a program that takes its data row by row"),
        ({"y": np.array([1.0, np.nan])}, None, ProgramError, "1 of 2 values that are not finite"),
    ],
)
def test_mistakes_are_told(data, rows, error, words):
    algorithm = em.MonteCarloEM(minibatches=rows is not None)
    fit = em.Fit(program=lambda key: Plates(jnp.zeros(())), data=data, algorithm=algorithm)
    with pytest.raises(error, match=words):
        fit.plan()


@pytest.mark.slow
def test_data_are_columns_by_name():
    with pytest.raises((DataError, TypeError), match="expected columns by name|typechecking parameter 'data'"):
        em.Fit(program=lambda key: Plates(jnp.zeros(())), data=np.ones(3))
    plan = em.Fit(program=lambda key: Plates(jnp.zeros(())), data={"y": np.ones(3, np.float32)}).plan()
    assert plan.problem.graph.columns == ("y",)  # a parameter with a default may be left out
    work = plan.assemble()
    assert first_window(work.step, work.initial(), work.key).count == 0


@pytest.mark.slow
def test_a_run_on_memory_mapped_rows_is_judged_and_goes_on(tmp_path):
    def made():
        diagnostics = em.Diagnostics(em.HMC(0.1, leapfrogs=2), chains=2, warm_up=20, draws=20, rows=2, marginal=4)
        fit = images_fit(np.load(tmp_path / "image.npy", mmap_mode="r"))
        return dataclasses.replace(fit, training=em.Training(steps=4, batch=8), diagnostics=diagnostics)

    np.save(tmp_path / "image.npy", bars(40))
    outcome = em.fit(made(), tmp_path / "run", reporter=em.Silent())
    assert np.isfinite(outcome.report.log_marginal["value"])
    assert (tmp_path / "run" / "samples.png").stat().st_size > 0
    again = em.fit(made(), tmp_path / "run", resume=True, reporter=em.Silent())  # found from the data's digest
    np.testing.assert_array_equal(again.report.log_marginal["value"], outcome.report.log_marginal["value"])
    np.save(tmp_path / "image.npy", bars(40))
    with pytest.raises(CheckpointError, match="the data has changed"):
        em.fit(made(), tmp_path / "run", resume=True, reporter=em.Silent())
