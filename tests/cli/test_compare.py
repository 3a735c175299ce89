"""pplemd compare and distill --algorithm as a user would start them."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compared(new_shell, ring):
    """A comparison, again, and mistakes: the folder, and what each command said."""
    shell = new_shell()
    compare = ["compare", ring, "--algorithms", "emd,dmd", "--budget", "steps=3", "--seeds", "1", "--out", "out"]
    said = shell.drive(
        {
            "compare": compare,
            "again": [*compare, "--json"],
            "budget": [*compare[:-4], "--seeds", "1", "--out", "out", "--budget", "steps=4"],
            "unknown": ["compare", ring, "--algorithms", "emd,gan"],
            "words": ["compare", ring, "--budget", "hours=1"],
            "distill": [
                "distill",
                ring,
                "--algorithm",
                "SiD",
                "--set",
                "algorithm.alpha=1",
                "--steps",
                "2",
                "--out",
                "sid",
            ],
            "algorithm": ["distill", ring, "--algorithm", "gan"],
            "fid": ["fid", "none.npz"],
            "consistency": ["distill", ring, "--algorithm", "consistency"],
        }
    )
    return shell.folder, said


def test_a_table_for_people_and_one_json_value_for_programs(compared):
    folder, said = compared
    assert [said[name][0] for name in ("compare", "again")] == [0, 0], said
    out = said["compare"][1]
    for phrase in ("real against real", "teacher", "emd", "dmd", "less emd of the same seed", "out holds compare.json"):
        assert phrase in " ".join(out.split())
    assert max(len(line) for line in out.splitlines()) <= 100
    found = json.loads(said["again"][1])
    assert found["methods"]["dmd"]["figures"]["sliced_w2"]["n"] == 1
    assert found == {"out": "out", **json.loads((folder / "out" / "compare.json").read_text())}
    assert "emd, seed 0: 3 steps" in said["compare"][2]
    assert "seed 0" not in said["again"][2]  # nothing was run again


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("budget", "holds a comparison with another budget: steps=3"),
        ("unknown", "Or name another kind: Consistency, DMD, DiffInstruct, EMD, SIM, SiD"),
        ("words", "expected steps=N, evaluations=N or seconds=N"),
        ("algorithm", "Or name another kind"),
        ("fid", "found no file none.npz"),
        ("consistency", "needs one em.one_step(teacher, sigma=80.0)"),
    ],
)
def test_mistakes(compared, name, phrase):
    code, _, error = compared[1][name]
    assert code == 2
    assert phrase in error


def test_an_algorithm_by_name(compared):
    folder, said = compared
    assert said["distill"][0] == 0, said["distill"]
    algorithm = json.loads((folder / "sid" / "config.json").read_text())["algorithm"]
    assert (algorithm["type"], algorithm["alpha"]) == ("SiD", 1.0)
