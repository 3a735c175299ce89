"""A flag of XLA that is set before it starts: no fusions for YNNPACK, some of which fail when they run."""

import logging
import mmap
import os
from pathlib import Path

import jax
import jaxlib
from jaxlib import xla_client

logger = logging.getLogger("pplemd")

OPTION = "xla_cpu_experimental_ynn_fusion_type"  # of XLA's CPU backend: what YNNPACK computes; nothing where empty
VARIABLE = "XLA_FLAGS"


def _plainly() -> str:
    """See that XLA compiles no fusions for YNNPACK in this process, whoever lets it compile.

    Such a fusion of arrays with more than 8 axes compiles, and then ends the program that runs it: attention in a
    network that is mapped over chains and samples has nine. XLA reads its flags once, when its options are first
    read; afterwards the variable is as it was, since plugins of other devices and child processes may hold another
    XLA, which would abort at a flag that it does not know.

    Returns:
        The flag; "" where the user has decided of it, or where this jaxlib does not know it.
    """
    own = os.environ.get(VARIABLE)
    in_file = own is not None and own.strip() != "" and not own.strip().startswith("-")
    if OPTION in (own or "") or in_file or not _known(OPTION):
        return ""
    flag = f"--{OPTION}="
    os.environ[VARIABLE] = f"{flag} {own or ''}".strip()
    try:
        options = xla_client.CompileOptions()  # named, all three: the inner ones are parts of the outer ones' memory
        building = options.executable_build_options
        understood = building.debug_options
        options_text = repr(understood)
    finally:
        del os.environ[VARIABLE]
        if own is not None:
            os.environ[VARIABLE] = own
    if f"{OPTION}:" in options_text and jax.default_backend() == "cpu":
        logger.warning(
            "JAX was at work before pplemd was imported: what XLA computes by YNNPACK (arrays of more than 8 axes) may "
            "fail, in pictures or samples for instance. Import pplemd before JAX is used, or set the variable %s.",
            f"XLA_FLAGS={flag}",
        )
    return flag


def _known(option: str) -> bool:
    """Whether the XLA of this jaxlib has a flag of that name: XLA itself aborts at one that it has not."""
    name = f"\0{option}\0".encode()
    for library in Path(jaxlib.__file__).parent.glob("*jax_common*"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(name) >= 0:
                return True
    return False


FLAGS = _plainly()  # here, at import: BlackJAX's own import already makes JAX look for devices
