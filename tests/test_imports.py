"""Imports point down, third parties are met where they belong, and faces only re-export."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pplemd"
ALLOWED = {  # what a part may import of the package, besides itself and the errors
    "devices": set(),
    "diffusion": set(),
    "networks": set(),
    "data": set(),
    "storage": {"devices"},
    "importers": {"networks", "teachers", "diffusion", "storage", "metrics"},
    "metrics": {"storage"},
    "plotting": {"storage"},
    "diagnosis": {"storage", "plotting"},
    "report": {"storage", "plotting", "diagnosis"},
    "teachers": {"diffusion", "networks"},
    "dsl": {"teachers", "devices"},
    "inference": {"dsl", "teachers", "diffusion"},
    "parameterization": {"inference", "dsl"},
    "learning": {
        "parameterization",
        "inference",
        "dsl",
        "teachers",
        "diffusion",
        "networks",
        "data",
        "storage",
        "devices",
    },
    "tasks": {
        "learning",
        "parameterization",
        "inference",
        "dsl",
        "teachers",
        "importers",
        "diffusion",
        "networks",
        "data",
        "metrics",
        "diagnosis",
        "plotting",
        "report",
        "storage",
        "devices",
    },
    "planning": {"tasks", "learning", "inference", "dsl", "teachers", "importers", "devices"},
}
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


@pytest.mark.parametrize("name", ALLOWED)
def test_a_part_imports_only_what_lies_below_it(name):
    assert graph()[name] <= ALLOWED[name] | {"errors"}


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


def test_a_start_does_not_wait_for_what_it_does_not_need():
    late = ["arviz", "matplotlib", "scipy.spatial", "scipy.stats", "sklearn", "tensorboardX", "torch"]
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
