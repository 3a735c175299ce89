"""What a user subclasses: a program is its trainable networks and one ``__call__``."""

import abc
from typing import Any

import equinox as eqx


class Program(eqx.Module):
    """A one-step generator written as a probabilistic program.

    The fields are the networks that get trained. ``__call__(self)`` or, for a class-conditional program,
    ``__call__(self, label)`` (``label``: int32 scalar) declares latents with `latent` and its one output with
    `generate`, for one sample. It may return the generated value or nothing.
    """

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Declare the latents and the generated value of one sample."""
