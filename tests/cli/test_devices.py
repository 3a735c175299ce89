"""A device that is not there: the message is for who asked for it."""

import gc

import jax
import pytest
import typer

from pplemd_cli import options


def _fail():
    raise RuntimeError("Unable to initialize backend 'cuda'\nmore")


@pytest.mark.parametrize(
    ("device", "platforms", "told", "untold"),
    [
        (None, "cuda", "JAX_PLATFORMS=cuda, a variable of this environment. Unset it", "--device"),
        (None, "tpu,cuda", "JAX_PLATFORMS=tpu,cuda", "--device"),
        (
            options.DeviceName.gpu,
            "cpu",
            "no device gpu (Unable to initialize backend 'cuda'). Leave --device out",
            "Unset",
        ),
        (None, None, "Choose one by --device cpu", "JAX_PLATFORMS"),
    ],
)
def test_who_asked_for_it(monkeypatch, device, platforms, told, untold):
    monkeypatch.setattr(jax, "devices", _fail)
    monkeypatch.setattr(gc, "disable", lambda: None)  # for good: a command that fails ends
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("JAX_PLATFORMS", platforms or "")
    with pytest.raises(typer.BadParameter) as met:
        options.prepare(device, debug=False)
    assert told in str(met.value)
    assert untold not in str(met.value)
