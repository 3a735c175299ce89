"""Imports point down, third parties are met where they belong, and faces only re-export."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pplemd"
ALLOWED = {  # what a part may import of the package, besides itself, the errors and the keys
    "devices": set(),
    "codecs": set(),
    "conditions": set(),
    "data": set(),
    "diffusion": {"conditions"},
    "networks": {"conditions"},
    "storage": {"devices"},
    "metrics": {"storage"},
    "plotting": {"storage"},
    "diagnosis": {"storage", "plotting"},
    "report": {"storage", "plotting", "diagnosis"},
    "teachers": {"diffusion", "networks", "codecs", "conditions"},
    "importers": {"networks", "teachers", "diffusion", "storage", "metrics", "conditions"},
    "dsl": {"teachers", "devices", "conditions"},
    "inference": {"dsl", "teachers", "diffusion", "conditions"},
    "parameterization": {"inference", "dsl", "teachers", "storage", "conditions"},
    "learning": {"inference", "teachers", "networks", "diffusion", "devices", "storage", "conditions"},
    "algorithms": {
        "learning",
        "parameterization",
        "inference",
        "dsl",
        "teachers",
        "diffusion",
        "devices",
        "conditions",
    },
}
ALLOWED["tasks"] = {*ALLOWED} - {"tasks"}
ALLOWED["planning"] = {"tasks", *ALLOWED["tasks"]}
LOOSE = {"__init__.py", "errors.py", "keys.py"}  # the face, and what every room may use
MET_IN = {
    "blackjax": "inference",
    "arviz": "diagnosis",
    "arviz_stats": "diagnosis",
    "xarray": "diagnosis",
    "orbax": "storage",
    "tensorboardX": "report",
    "numpyro": "dsl",
    "flowjax": "teachers",
    "flax": "nowhere",
    "torch": "metrics",
    "torch_fidelity": "metrics",
}


def parsed():
    return {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def part(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """Full names of what a module imports, lazily or not."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def graph() -> dict[str, set[str]]:
    """Part of the package -> parts that it imports; the face is above them all."""
    found: dict[str, set[str]] = {}
    for path, tree in parsed().items():
        names = {name.split(".")[1] for name in imports(tree) if name.startswith("pplemd.")}
        found.setdefault(part(path), set()).update(names - {part(path)})
    found.pop("__init__")
    return found


@pytest.mark.slow_for("networks")
@pytest.mark.parametrize("name", ALLOWED)
def test_a_part_imports_only_what_lies_below_it(name):
    assert graph()[name] <= ALLOWED[name] | {"errors", "keys"}


def test_nothing_lies_loose_at_the_root():
    assert {path.name for path in PACKAGE.glob("*.py")} <= LOOSE


def test_there_are_no_circles():
    order = list(TopologicalSorter(graph()).static_order())  # raises CycleError
    assert {"diffusion", "learning", "tasks"} < set(order)
    assert graph()["errors"] == set()


def test_third_parties_are_met_in_one_place_and_private_jax_nowhere():
    for path, tree in parsed().items():
        for name in imports(tree):
            top = name.split(".")[0]
            assert MET_IN.get(top, part(path)) == part(path), (path, name)
            assert not name.startswith("jax._src"), (path, name)


@pytest.mark.slow
def test_a_start_does_not_wait_for_what_it_does_not_need():
    late = ["arviz", "jinja2", "matplotlib", "scipy.spatial", "scipy.stats", "sklearn", "tensorboardX", "torch"]
    told = f"import sys, pplemd; pplemd.data.digits(); print([name for name in {late} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_faces_only_re_export():
    for path, tree in parsed().items():
        if path.name == "__init__.py":
            assert ast.get_docstring(tree), path
            for node in tree.body[1:]:
                assert isinstance(node, ast.ImportFrom), (path, ast.unparse(node))
                assert all(alias.asname == alias.name for alias in node.names), (path, ast.unparse(node))


KINDS = r"Model|Fit|Taught|Plan|FitPlan|TeachingPlan|Distilled|Fitted|Distillation|AbstractDistillation|MonteCarloEM"


def test_nothing_outside_of_the_tasks_asks_which_kind_a_task_is():
    switch = re.compile(rf"(isinstance|issubclass)\([^)]*\b({KINDS})\b|case ({KINDS})\(")
    outside = [path for path in PACKAGE.rglob("*.py") if path.parts[-2] not in ("tasks", "algorithms")]
    outside += (PACKAGE.parent / "cli").rglob("*.py")
    found = [f"{path}: {line}" for path in outside for line in path.read_text().splitlines() if switch.search(line)]
    assert found == []


# of earlier versions, or of no field; in a public name they would need a dictionary
DIALECT = (
    "told tell asks asked ask twin shadow untold held hold holds frozen dear displace untilted scene moment asked "
    "schooling brought portrait boards beside exhibit exhibits remains choosing judging computing narrator"
).split()
STANDS = {
    "frozen",
    "held_out",
    "tell",
    "_held_out_indices",
    "_second_moment_alone",
}  # of libraries and data


def test_names_are_the_field_s_words():
    found = []
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "cli").rglob("*.py")]:
        names = {path.stem}
        for node in ast.walk(ast.parse(path.read_text())):
            names |= {getattr(node, field, None) for field in ("id", "attr", "name", "arg")} - {None}
        parts = {name: re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", str(name)).lower()) for name in names - STANDS}
        found += [(path.name, name) for name, some in parts.items() if set(some) & set(DIALECT)]
    assert found == []
