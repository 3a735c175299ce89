"""The files beside a model file that it imports: they are a part of the model."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path


def siblings(path: Path) -> list[Path]:
    """The files of a model file's folder that it imports, or that they import, sorted.

    Read off the import statements, without executing anything: one inside of a function counts, a name that is put
    together by the program does not. Of a package all files count. What Python itself brings is no sibling,
    nor is pplemd, of a file that lies beside its source.

    Args:
        path: the model file.
    """
    folder, found = path.resolve().parent, {path.resolve()}
    waiting = [path.resolve()]
    while waiting:
        for name in _imported(waiting.pop()):
            new = [file for file in _files(folder, name) if file not in found]
            found.update(new)
            waiting += new
    return sorted(found - {path.resolve()})


def _imported(file: Path) -> Iterator[str]:
    """The top-level names that a file imports; none where it is not Python source, which loading it tells."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.partition(".")[0]


def _files(folder: Path, name: str) -> list[Path]:
    if name in sys.stdlib_module_names or name == __name__.partition(".")[0]:
        return []
    package, module = folder / name, folder / f"{name}.py"
    single = module.is_file()
    if (package / "__init__.py").is_file() or (not single and _spread(package)):
        return [file for file in package.rglob("*.py") if file.is_file()]
    return [module] if single else []


def _spread(package: Path) -> bool:
    """Whether a folder without `__init__.py` is what its name imports: one with it, anywhere, would come first."""
    if not package.is_dir():
        return False
    spec = importlib.util.find_spec(package.name)  # executes nothing, of a name without dots
    return spec is None or spec.origin is None
