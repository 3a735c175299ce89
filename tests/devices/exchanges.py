"""What a compiled step sends between devices, read from its HLO."""

import dataclasses
import math
import re

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_LOOPED = re.compile(r"(?:body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_BEGIN = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_SHAPE = re.compile(r"\b[a-z]+\d*(?:\[([\d,]*)\])")
_SCOPE = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One collective operation of a compiled step.

    Attributes:
        kind: one of KINDS.
        elements: numbers in its result on one device.
        scope: where it comes from in the step: names of scopes and functions.
        looped: whether it lies in a loop, so that it may happen many times.
    """

    kind: str
    elements: int
    scope: str
    looped: bool


def exchanges(text: str) -> list[Exchange]:
    """The collective operations of a compiled step, in the order of its text.

    Those that wait for an answer (`-start`, `-done`) count once.

    Args:
        text: its optimised HLO.
    """
    computations = _computations(text)
    looped = _reached(computations)
    found = []
    for name, lines in computations.items():
        for line in lines:
            kind = _kind(line)
            if kind is not None:
                scope = _SCOPE.search(line)
                found.append(Exchange(kind, _elements(line), scope.group(1) if scope else "", name in looped))
    return found


def _computations(text: str) -> dict[str, list[str]]:
    """The lines of each computation."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        begin = _BEGIN.match(line)
        if begin:
            current = found.setdefault(begin.group(1), [])
        elif " = " in line:
            current.append(line.strip())
    return found


def _reached(computations: dict[str, list[str]]) -> set[str]:
    """Names of the computations that run inside of a loop."""
    waiting = [name for lines in computations.values() for line in lines for name in _LOOPED.findall(line)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in reached or name not in computations:
            continue
        reached.add(name)
        for line in computations[name]:
            waiting += _CALLED.findall(line)
            waiting += [branch.strip(" %") for group in _BRANCHES.findall(line) for branch in group.split(",")]
    return reached


def _kind(line: str) -> str | None:
    """Which collective an instruction is, if it is one."""
    for kind in KINDS:
        if re.search(rf"[)}}\]] {kind}(?:-start)?\(", line):
            return kind
    return None


def _elements(line: str) -> int:
    """Numbers in an instruction's result, a tuple's together."""
    result = re.split(r" [a-z\-]+\(", line.split(" = ", 1)[1], maxsplit=1)[0]
    sizes = [math.prod(int(n) for n in dims.split(",") if n) for dims in _SHAPE.findall(result)]
    return sum(sizes)
