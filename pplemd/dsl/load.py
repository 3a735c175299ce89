"""Loading a model file of the user, with the files beside it, and picking the value that it defines."""

import ast
import contextlib
import contextvars
import importlib.util
import itertools
import json
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pplemd.dsl.locations import here, place_of, shown
from pplemd.errors import DataError, PplemdError, ProgramError


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
    """The top-level names that a file imports; none where it is not Python source, which loading it shows."""
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


RENAMED = {
    "Recipe": "em.Training (steps, batch, seed, ...) and an algorithm, such as em.EMD",
    "recipe": "`training=em.Training(...)` and `algorithm=em.EMD(...)`",
    "FitRecipe": "em.Training and em.MonteCarloEM",
    "TeachRecipe": "em.Training and em.ScoreMatching",
    "ScoreRecipe": "em.ScoreUpdates, an algorithm's `score`",
    "Compute": "em.Precision, a training's `precision`",
    "compute": "`precision` and `microbatches` of em.Training",
    "Choosing": "em.Reparameterization, an algorithm's `reparameterization`",
    "choosing": "`reparameterization`",
    "Judging": "em.Diagnostics, a fit's `diagnostics`",
    "judging": "a fit's `diagnostics`",
    "methods": "em.algorithms",
    "method": "`algorithm`",
    "frozen": "`move_latents`, its opposite",
    "rows": "`batch` of em.Training, with `minibatches=True`",
    "labels": "`conditions`",
    "score_network": '`networks={"score": ...}`',
    "label_dropout": "`condition_dropout`",
    "slow_every": "`expensive_every`",
    "LastIsNone": "NullClassDenoiser",
    "ALL": "em.Cancellation.ALL",
    "NONE": "em.Cancellation.NONE",
    "INITIAL": "em.Cancellation.INITIAL",
    "INJECTED": "em.Cancellation.INJECTED",
    "PAIRED": "em.Cancellation.PAIRED",
    "narrator": "`reporter`",
    "distilled": "`result`",
}
PATTERNS = (  # of Python's own messages
    r"unexpected keyword argument '(\w+)'",
    r"module 'pplemd[\w.]*' has no attribute '(\w+)'",
    r"cannot import name '(\w+)' from 'pplemd",
)


def renamed(message: str) -> str:
    """What an earlier version's name is called now, as a sentence; empty where an error is of something else."""
    for pattern in PATTERNS:
        found = re.search(pattern, message)
        if found and found[1] in RENAMED:
            return f" {found[1]} of earlier versions is {RENAMED[found[1]]} now (docs/changelog.md)."
    return ""


_numbers = itertools.count()
UNANSWERED = "__unanswered__"  # of a loaded module: what it asked for and was not given, by name
SETTLED = "__settled__"  # of a loaded module: what was found while it loaded and is kept with a run, by name


class _Loading(NamedTuple):
    """What the file that loads is given, and what it requested in vain."""

    values: Mapping[str, str]
    unanswered: dict[str, str]
    requested: set[str]
    settled: dict[str, str]


_loading: contextvars.ContextVar[_Loading] = contextvars.ContextVar("loading")


def given(name: str, what: str, default: str | None = None) -> str:
    """Return what the user gives a model file beside its numbers, such as the path of its data.

        path = em.given("data", "posteriordb's radon_mn.json")

    is asked for by `--set given.data=PATH`, is kept with the run, and is the same when the run is resumed or looked at.

    Args:
        name: of the value.
        what: said where it is missing.
        default: where it is not given; None where it must be.

    Raises:
        ProgramError: where it must be given and is not.
    """
    loading = _loading.get(_Loading({}, {}, set(), {}))  # a file that Python itself loads is given nothing
    loading.requested.add(name)
    if name in loading.values:
        return loading.values[name]
    loading.unanswered[name] = what
    if default is None:
        raise ProgramError(f"{here()}: this file asks for {what}. Give it: --set given.{name}=VALUE.")
    return default


def settled(name: str, settle: Callable[[], str]) -> tuple[str, bool]:
    """Return what a run keeps under a name, or else what is found now and will be kept: a value and which of both.

    While a model file loads, a run's value is given as `given` values are, so that a run that is resumed or looked at
    does not find it anew. Names that come again in one file are counted.

    Args:
        name: of the value.
        settle: finds it.
    """
    loading = _loading.get(_Loading({}, {}, set(), {}))
    while name in loading.requested:
        stem, _, number = name.partition("#")
        name = f"{stem}#{int(number or 1) + 1}"
    loading.requested.add(name)
    if name in loading.values:
        return loading.values[name], True
    loading.settled[name] = settle()
    return loading.settled[name], False


def settled_by(module: types.ModuleType) -> Mapping[str, str]:
    """What was found while a model file loaded, by name, for its run to keep."""
    return getattr(module, SETTLED, {})


def load_file(path: str | Path, values: Mapping[str, str] | None = None) -> types.ModuleType:
    """Execute a Python file as a module under a private, unique name.

    The file's folder is importable while it loads. Modules that were only found there are forgotten afterwards, so
    that files of two folders may have siblings of the same name.

    Args:
        path: of a ``.py`` file in UTF-8.
        values: what the file is given where it requests by `given`.

    Raises:
        ProgramError: the file cannot be read, raised an error (with the line), or did not ask for a value.
    """
    file = Path(path)
    source = _source(file)
    try:
        code = compile(source, str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise ProgramError(_syntax(file, error)) from error
    name = f"_pplemd_model_{next(_numbers)}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    kept = (module.__dict__.setdefault(name, {}) for name in (UNANSWERED, SETTLED))
    loading = _Loading(values or {}, next(kept), set(), next(kept))
    before = _loading.set(loading)
    try:
        with _importable(file.resolve().parent):
            exec(code, module.__dict__)  # compiled above: no stale bytecode, and no folder __pycache__ beside the file
        _check_requested(file, loading)
    except PplemdError as error:
        del sys.modules[name]
        if isinstance(error, DataError):  # it knows the data and not who reads them
            raise DataError(f"{place_of(error)}: {error}") from error
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ProgramError(_raised(file, error)) from error
    finally:
        _loading.reset(before)
    return module


def _check_requested(file: Path, loading: _Loading) -> None:
    """Raise where a value was given that the file did not ask for: a slip of the pen would have no effect."""
    strange = sorted(set(loading.values) - loading.requested)
    if strange:
        requests = ", ".join(f"given.{name}" for name in sorted(loading.requested)) or "nothing"
        raise ProgramError(
            f"{shown(file)}: found --set given.{strange[0]}; the file asks for {requests}. Correct the name, or leave "
            "it out."
        )


def select(module: types.ModuleType, kind: type | tuple[type, ...], name: str | None = None) -> tuple[str, Any]:
    """Return the name and the value of a module's one value of a class, or of the one that is named.

    Args:
        module: a loaded model file.
        kind: class that the value must be an instance of, or several.
        name: of the value; None where there is only one.

    Raises:
        ProgramError: there is none, or several and no name, or the name is another.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    place, wanted = shown(module.__file__ or module.__name__), " or a ".join(one.__name__ for one in kinds)
    found = _values(module, kinds)
    choice = "--program NAME"
    if name is not None:
        value = getattr(module, name, None)
        if isinstance(value, kinds):
            return name, value
        what = f"is a {type(value).__name__}" if hasattr(module, name) else "does not exist"
        names = _names(found, wanted, choice) + _requests(module)
        raise ProgramError(f"{place}: {name!r} {what}; expected a {wanted}. {names}")
    if len(found) > 1:
        raise ProgramError(
            f"{place}: found several values that are a {wanted} ({', '.join(found)}); expected one, or a choice. "
            f"Name one with {choice}."
        )
    if not found:
        more = _classes(module, kinds) + _requests(module)
        raise ProgramError(f"{place}: found no value that is a {wanted}; expected one.{more}")
    return next(iter(found.items()))


def _values(module: types.ModuleType, kind: tuple[type, ...]) -> dict[str, Any]:
    """Values of a class by name; those that only support others, as a teacher its model, where there are no others."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        known = any(value is other for other in found.values())
        if isinstance(value, kind) and not name.startswith("_") and not known:
            found[name] = value
    chief = {name: value for name, value in found.items() if not getattr(value, "supporting", False)}
    return chief or found


def _names(found: dict[str, Any], wanted: str, choice: str) -> str:
    if not found:
        return f"The file defines no {wanted} at module level."
    return f"Name one of {', '.join(found)} with {choice}."


def _requests(module: types.ModuleType) -> str:
    """What a file was not given: some of its values may need it."""
    unanswered: dict[str, str] = getattr(module, UNANSWERED, {})
    if not unanswered:
        return ""
    loading = "; ".join(f"--set given.{name}=VALUE, {what}" for name, what in unanswered.items())
    return f" Or give what the file asks for and was not given, some of its values may need it: {loading}."


def _classes(module: types.ModuleType, kind: tuple[type, ...]) -> str:
    derived = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, kind) and value.__module__ == module.__name__
    ]
    if derived:
        return f" The file defines the class {derived[0]}: add a value of it, program = {derived[0]}(...)."
    name = kind[0].__name__
    if name in ("Model", "Fit"):
        return f" Add one at module level, for example {name.lower()} = em.{name}(program=..., ...)."
    return f" Add one at module level, for example program = Ring(net=...) of a class derived from {name}."


def _source(file: Path) -> str:
    place = shown(file)
    if not file.exists():
        raise ProgramError(f"{place} does not exist; expected a Python file. Check the path and the working folder.")
    if file.is_dir():
        raise ProgramError(f"{place} is a folder; expected a Python file. Name one of the .py files in it.")
    if file.suffix != ".py":
        raise ProgramError(f"{place} is not a .py file; expected a Python file that defines a program. Rename it.")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProgramError(
            f"{place} is not UTF-8 text (byte {error.start}); expected Python source. Save it as UTF-8, or check that "
            "it is the right file."
        ) from error
    except OSError as error:
        raise ProgramError(
            f"{place} cannot be read ({error.strerror}); expected a readable file. Check its permissions."
        ) from error


def _syntax(file: Path, error: SyntaxError | ValueError) -> str:
    if not isinstance(error, SyntaxError):
        return f"{shown(file)} is not Python source ({error}); expected text. Check that it is the right file."
    text = f": {error.text.strip()!r}" if error.text else ""
    return (
        f"{shown(error.filename or file)}, line {error.lineno}: {error.msg}{text}; expected valid Python. "
        "Repair that line, or the one above it."
    )


def _raised(file: Path, error: BaseException) -> str:
    place = place_of(error)
    if isinstance(error, SyntaxError):  # of a module that the file imports
        return _syntax(file, error)
    if isinstance(error, SystemExit):
        return (
            f"{place}: the file ended Python while it loaded (SystemExit: {error.code}); expected it to define a "
            'program and return. Move what runs as a script below if __name__ == "__main__".'
        )
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{place}: found an import of {error.name!r}, which does not exist; expected an installed package or a "
            "file in the same folder. Install it, or correct the name."
        )
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        path = str(error.filename)
        names = [name for name, value in _loading.get().values.items() if value and Path(value) == Path(path)]
        repair = f"Check the path: --set given.{names[0]}=PATH" if names else "Check its path in that line"
        return f"{place}: found no file {path!r}; expected one to read. {repair}."
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        return _unread(place, error)
    return (
        f"{place}: found {type(error).__name__}: {str(error).strip() or '(no message)'}; expected the file to load "
        f"without an error.{renamed(str(error))} Repair that line."
    )


def _unread(place: str, error: UnicodeDecodeError | json.JSONDecodeError) -> str:
    """A file of data that is not what it was read as; which one, where the file's values are paths."""
    zipped = isinstance(error, UnicodeDecodeError) and error.object.startswith((b"PK", b"\x1f\x8b"))
    paths = [
        f"given.{name}={value}" for name, value in _loading.get().values.items() if value and Path(value).is_file()
    ]
    of = f" (the file was given {', '.join(paths)})" if paths else ""
    return (
        f"{place}: found {'a packed file' if zipped else type(error).__name__} where text was read: {error}{of}; "
        "expected UTF-8 text, or whole JSON. Read data by em.data.table(path), which takes .json, .jsonl and .csv, in "
        "a .zip or .gz too, and names what is wrong in them."
    )


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    before = set(sys.modules)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the file itself may have removed it
            sys.path.remove(entry)
        for name in set(sys.modules) - before:
            if _lies_in(folder, name):
                del sys.modules[name]


def _lies_in(folder: Path, name: str) -> bool:
    origin = getattr(sys.modules[name], "__file__", None)
    if origin is None or not Path(origin).is_relative_to(folder):
        return False
    top = name.partition(".")[0]  # not what lies deeper, such as the packages of an environment inside of the folder
    return Path(origin).relative_to(folder).parts[0] in (top, f"{top}.py")
