"""What a user subclasses: a program is its trainable networks and one ``__call__``."""

import abc
from typing import Any

import equinox as eqx


class Program(eqx.Module):
    """A probabilistic program: what is latent, what is generated, what is observed.

    The fields are the networks that get trained. ``__call__`` declares latents with `latent`, its one output with
    `generate`, and data with `observe`, for one sample. It may return the generated value or nothing. What it takes:
    nothing; ``(self, label)``, an int32 scalar, for a class-conditional generator; ``(self, image)``, with any names,
    for a program that is fitted to columns of data: one row of each, or whole columns.
    """

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Declare the latents and the generated value of one sample."""
