"""What a mistake looks like: a message that names it, exit code 2, no traceback."""

import json

import pytest

pytestmark = pytest.mark.slow

HEAD = """
import jax, jax.numpy as jnp, numpy as np, numpyro.distributions as dist
import pplemd as em

class Tiny(em.Program):
    net: em.networks.MLP
    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.net(z))

def program(teacher, key):
    return Tiny(em.networks.MLP((2,), (2,), width=4, depth=1, key=key))

def score_network(key):
    return em.Denoiser(em.networks.ResidualMLP((2,), width=4, blocks=1, key=key), sigma_data=1.0)

teacher = em.GaussianMixture(np.eye(2), 0.2)
"""
NETWORKS = "{'score': score_network}"
GOOD = "m = em.Model(program=program, teacher=teacher, networks={'score': score_network}%s)\n"


def model(**changed: str) -> str:
    """A model file with some of the model's arguments changed."""
    fields = {"program": "program", "teacher": "teacher", "networks": NETWORKS, **changed}
    return HEAD + f"m = em.Model({', '.join(f'{name}={text}' for name, text in fields.items())})\n"


def taught(network: str) -> str:
    """A model file whose teacher has a network that cannot be built: `network` is its call, up to its key."""
    return model(teacher=f"em.teach(lambda key: em.networks.{network}, key=key), em.data.digits())")


# kind: (file, phrases of the message)
BAD = {
    "syntax": (HEAD + "m = em.Model(\n", ["line 18", "was never closed", "Repair that line"]),
    "not text": ("\0", ["null", "expected"]),
    "empty": ("", ["no value that is a Model", "for example model = em.Model(program=..., ...)"]),
    "import": ("import no_such_module\n", ["no_such_module", "Install it"]),
    "raises": (HEAD + "1 / 0\n", ["line 18", "ZeroDivisionError", "Repair that line"]),
    "exits": ("raise SystemExit(3)\n", ["ended Python while it loaded"]),
    "no model": (HEAD, ["no value that is a Model"]),
    "two models": (model() + "n" + model()[len(HEAD) + 1 :], ["several values", "m, n", "--program NAME"]),
    "program is a program": (
        model(program="program(teacher, jax.random.key(0))"),
        ["`program` is a Tiny", "lambda teacher, key"],
    ),
    "program is a class": (model(program="Tiny"), ["`program` is the class Tiny", "lambda teacher, key"]),
    "program builds an array": (model(program="lambda teacher, key: jnp.ones(2)"), ["`program` built", "em.Program"]),
    "program builder fails": (model(program="lambda teacher, key: key.nothing"), ["line 18", "nothing"]),
    "program takes no key": (model(program="lambda teacher: None"), ["TypeError", "positional argument"]),
    "no trainable array": (
        HEAD.replace("net: em.networks.MLP", "net: float").replace("self.net(z)", "self.net * z")
        + model(program="lambda teacher, key: Tiny(2.0)")[len(HEAD) :],
        ["no trainable array", "Give it a network"],
    ),
    "wrong output shape": (
        model(program="lambda teacher, key: Tiny(em.networks.MLP((2,), (3,), width=4, depth=1, key=key))"),
        ["has shape (3,)", "the teacher's (2,)"],
    ),
    "wrong latent shape": (
        model(program="lambda teacher, key: Tiny(em.networks.MLP((5,), (2,), width=4, depth=1, key=key))"),
        ["(5,)", "(2,)"],
    ),
    "discrete latent": (
        model().replace("dist.Normal(jnp.zeros(2), 1.0)", "dist.Bernoulli(0.5 * jnp.ones(2))"),
        ["discrete", "line 8"],
    ),
    "branch on a latent": (
        model().replace("self.net(z)", "self.net(z if z[0] > 0 else -z)"),
        ["branch", "jnp.where", "line 9"],
    ),
    "same name twice": (model().replace('em.generate("x"', 'em.generate("z"'), ["z", "line 9"]),
    "nothing generated": (model().replace('return em.generate("x", self.net(z))', "return self.net(z)"), ["generate"]),
    "label without classes": (
        model().replace("def __call__(self)", "def __call__(self, label)"),
        ["needs 'label'", "no condition"],
    ),
    "classes without label": (
        model(teacher="em.GaussianMixture(np.eye(2), 0.2, labels=True)"),
        ["takes no condition", "2 classes"],
    ),
    "labels without classes": (
        model(conditions="em.Labels([1, 2])"),
        ["prior of conditions", "leave `conditions` out"],
    ),
    "labels of another type": (model(conditions="[1, 2]"), ["`conditions` is a list", "em.Labels"]),
    "of an earlier version": (model(recipe="em.Recipe(steps=2)"), ["Recipe of earlier versions is em.Training"]),
    "a field of an earlier version": (model(labels="None"), ["labels of earlier versions is `conditions` now"]),
    "teacher is a function": (model(teacher="lambda x, sigma: -x"), ["`teacher` is a function", "ScoreFunction"]),
    "teacher of no scale": (model(teacher="em.GaussianMixture(np.eye(2), 0.0)"), ["positive std"]),
    "teacher's weights": (model(teacher="em.GaussianMixture(np.eye(2), 0.2, np.ones(3))"), ["weights", "(3,)"]),
    "teacher's score fails": (
        model(teacher="em.teachers.ScoreFunction(lambda x, sigma: x @ jnp.ones((5, 2)), (2,))"),
        ["line 18", "in <lambda>", "TypeError", "contracting"],
    ),
    "teacher's score of another shape": (
        model(teacher="em.teachers.ScoreFunction(lambda x, sigma: x[None], (2,))"),
        ["score of ScoreFunction is", "(1, 2)", "without a batch dimension"],
    ),
    "no score network": (model(networks="{}"), ["a GaussianMixture has none", "networks={"]),
    "score network is not one": (
        model(networks="{'score': lambda key: 3}"),
        ["network 'score' is a int", "em.Denoiser"],
    ),
    "score network of another shape": (
        model(
            networks="{'score': lambda k: em.Denoiser(em.networks.ResidualMLP((3,), width=4, blocks=1, key=k), 1.0)}"
        ),
        ["(3,)", "(2,)"],
    ),
    "one step of a density": (model(program="lambda teacher, key: em.one_step(teacher, 2.0)"), ["one_step copies"]),
    "a network that is none": (model(networks="{'score': 3}"), ["network 'score' is a int", "lambda key"]),
    "training is a dictionary": (model(training="{'steps': 3}"), ["`training` is a dict", "em.Training"]),
    "algorithm is a class": (model(algorithm="em.DMD"), ["`algorithm` is the class DMD", "em.EMD(...)"]),
    "unknown field": (model(training="em.Training(step=3)"), ["unexpected keyword argument 'step'", "line 18"]),
    "training of no steps": (model(training="em.Training(steps=0)"), ["steps >= 1", "steps=0"]),
    "a field of another type": (model(algorithm="em.EMD(sigmas=0.5)"), ["algorithm.sigmas is 0.5", "Sigmas"]),
    "an inner field of another type": (
        model(algorithm="em.EMD(score=em.ScoreUpdates(optimiser='adam'))"),
        ["algorithm.score.optimiser is 'adam'", "Optimiser"],
    ),
    "chain of no length": (model(algorithm="em.EMD(chain=em.Chain(em.Langevin(0.1), length=0))"), ["length=0"]),
    "evaluation of another type": (model(evaluation="print"), ["`evaluation` is", "em.metrics"]),
    "network of another shape than the data": (
        model(teacher="em.teach(lambda k: em.networks.ResidualMLP((3,), width=4, blocks=1, key=k), em.data.digits())"),
        ["(3,)", "(8, 8, 1)"],
    ),
    "a network's unknown size": (
        taught("SongUNet((8, 8, 1), chanels=8"),
        ["SongUNet has no argument chanels", "mean channels"],
    ),
    "a network's unknown argument": (
        taught("UNet((8, 8, 1), chanels=8"),
        ["UNet.__init__() got", "'chanels'"],
    ),
    "options of another network": (
        taught("UNet(em.networks.UNetOptions((8, 8, 1))"),
        ["UNet: shape is a UNetOptions", "(8, 8, 1)"],
    ),
    "no options": (taught("SongUNet(8"), ["SongUNet: its first argument is 8", "SongUNet(UNetOptions(...), key=key)"]),
    "another variant": (taught("SongUNet((8, 8, 1), 16"), ["SongUNet: variant is 16; expected DDPMPP"]),
    "a size that is none": (
        taught("UNet((8, 8, 1), channels=(8, 16)"),
        ["UNet: channels is (8, 16); expected"],
    ),
    "one multiplier": (taught("UNet((8, 8, 1), multipliers=2"), ["UNet: multipliers is 2; expected positive sizes"]),
    "attention as a number": (
        taught("DhariwalUNet((8, 8, 1), attention=8"),
        ["DhariwalUNet: attention is 8"],
    ),
    "levels that are missing": (taught("UNet2DModel((8, 8, 1)"), ["UNet2DModel: channels and down", "missing"]),
    "what is no network": (
        model(teacher="em.teach(lambda key: 'unet', em.data.digits())"),
        ["em.teach", "built a str", "em.networks"],
    ),
}


@pytest.fixture(scope="module")
def met(new_shell):
    """What each bad file leads to."""
    shell = new_shell()
    for number, (text, _) in enumerate(BAD.values()):
        (shell.folder / f"model_{number}.py").write_text(text)
    return shell.drive({kind: ["inspect", f"model_{number}.py"] for number, kind in enumerate(BAD)})


@pytest.mark.parametrize("kind", BAD)
def test_bad_model_file(met, kind):
    code, out, error = met[kind]
    assert code == 2, error
    assert out == ""
    assert "Traceback" not in error
    assert error.startswith("error: ")
    for phrase in BAD[kind][1]:
        assert phrase in error


def test_bad_model_file_in_a_process_of_its_own(shell):
    (shell.folder / "bad.py").write_text(BAD["wrong output shape"][0])
    ended = shell.run("distill", "bad.py", "--json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "the teacher's (2,)" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (shell.folder / "runs").exists()  # nothing is left behind


NAN = HEAD + (
    GOOD
    % (
        ", training=em.Training(steps=100, batch=4, log_every=5, patience=5), "
        "algorithm=em.EMD(chain=em.Chain(em.Langevin(0.01), length=1))"
    )
).replace("teacher=teacher", "teacher=em.teachers.ScoreFunction(lambda x, sigma: x * jnp.nan, (2,))")

COMMANDS = {
    "no file": (["distill", "nowhere.py"], ["nowhere.py does not exist"]),
    "no run": (["sample", "nowhere"], ["not a run folder"]),
    "no run to resume": (["distill", "RING", "--resume"], ["no run of", "leave out --resume"]),
    "no such program": (["distill", "RING", "--program", "other"], ["'other' does not exist", "Name one of tiny"]),
    "a file for a folder": (["distill", "RING", "--out", "file"], ["file is a file"]),
    "a folder that cannot be": (["distill", "RING", "--out", "/proc/none/run"], ["cannot be written"]),
    "override without a value": (["distill", "RING", "--set", "steps"], ["needs path=value"]),
    "override of nothing": (
        ["distill", "RING", "--set", "algorithm.chain.size=2"],
        ["no field 'size'", "kernel, length"],
    ),
    "override by a word": (["distill", "RING", "--set", "training.batch=many"], ["expected a value like 16"]),
    "override out of range": (["distill", "RING", "--steps", "0"], ["steps >= 1"]),
    "override of a ready teacher": (
        ["distill", "RING", "--set", "teacher.training.steps=2"],
        ["has no numbers to set"],
    ),
    "picture of another kind": (["sample", "nowhere", "--out", "x.jpg"], [".png", ".npz"]),
    "damaged config": (["sample", "damaged"], ["config.json is damaged"]),
    "foreign config": (["sample", "foreign"], ["was not written by pplemd"]),
    "missing model file": (["sample", "moved"], ["is gone", "--model FILE"]),
    "a teacher that is NaN": (["distill", "nan.py"], ["5 updates before step 5 were skipped", "returns NaN"]),
    "a batch beyond reason": (["inspect", "RING", "--set", "training.batch=1e12"], ["too large", "batch"]),
    "a seed beyond reason": (["distill", "RING", "--set", "training.seed=1e12"], ["seed < 2**32"]),
    "no such option": (["distill", "RING", "--stepz", "3"], ["No such option"]),
    "no such device": (["inspect", "RING", "--device", "abacus"], ["'abacus' is not one of"]),
}


@pytest.fixture(scope="module")
def said(new_shell, ring):
    """What each wrong command leads to."""
    shell = new_shell()
    (shell.folder / "file").touch()
    (shell.folder / "nan.py").write_text(NAN)
    gone = {"model": {"path": "/gone.py", "sha256": "", "name": "m"}, "overrides": []}
    for name, text in {"damaged": "{", "foreign": "{}", "moved": json.dumps(gone)}.items():
        (shell.folder / name).mkdir()
        (shell.folder / name / "config.json").write_text(text)
    return shell.drive(
        {kind: [ring if part == "RING" else part for part in parts] for kind, (parts, _) in COMMANDS.items()}
    )


@pytest.mark.parametrize("kind", COMMANDS)
def test_wrong_command(said, kind):
    code, out, error = said[kind]
    assert code == 2, error
    assert out == ""
    assert "Traceback" not in error
    for phrase in COMMANDS[kind][1]:
        assert phrase in error


def test_a_mistake_in_a_network_is_not_one_of_the_program(met):
    for kind in ("a network's unknown size", "options of another network", "one multiplier", "what is no network"):
        assert "the program" not in met[kind][2]
