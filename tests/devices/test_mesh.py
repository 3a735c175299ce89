"""Meshes as they are asked for, and what is refused."""

import pytest
from exchanges import exchanges

from pplemd.devices import ONE, chosen
from pplemd.devices.mesh import parsed
from pplemd.errors import DeviceError


def test_axes_are_read_in_any_order():
    assert parsed("data=8") == {"data": 8}
    assert list(parsed("model=2, data=4").items()) == [("data", 4), ("model", 2)]


@pytest.mark.parametrize("text", ["", "8", "data", "data=", "data=0", "data=-1", "data=x", "tensor=2", "data=2,data=2"])
def test_what_is_no_mesh_is_refused(text):
    with pytest.raises(DeviceError, match="is no axis of a mesh. Expected the axes data and model"):
        parsed(text)


def test_one_device_is_one_device():
    assert chosen(None, 7) is ONE
    assert chosen("data=1", 7) is ONE
    assert str(ONE) == "one device"
    with pytest.raises(DeviceError, match="asks for 8 devices; expected 1 or fewer"):
        chosen("data=4,model=2", 8)


HLO = """HloModule jit_advance, entry_computation_layout={()->f32[]}

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%inner (p: f32[4]) -> f32[4] {
  ROOT %all-gather.1 = f32[4]{0} all-gather(%p), dimensions={0}, metadata={op_name="jit(f)/E-step/while/x"}
}

%body.2 (p: (f32[4])) -> (f32[4]) {
  %c = f32[4]{0} call(%p), to_apply=%inner
}

%condition (p: (f32[4])) -> pred[] {
  ROOT %lt = pred[] constant(true)
}

ENTRY %main (p: f32[4]) -> f32[] {
  %w = (f32[4]{0}) while(%p), condition=%condition, body=%body.2
  %all-reduce = (f32[8,16]{1,0}, f32[], /*index=2*/f32[3]{0}) all-reduce(%x, %y, %z), to_apply=%sum
  %all-reduce-start.1 = f32[5]{0} all-reduce-start(%x), to_apply=%sum, metadata={op_name="jit(f)/score/psum"}
  %all-reduce-done.1 = f32[5]{0} all-reduce-done(%all-reduce-start.1)
  %fusion = f32[4]{0} fusion(%all-reduce), kind=kLoop, calls=%sum
}
"""


def test_what_a_step_sends_is_read_from_its_text():
    found = [(one.kind, one.elements, one.scope, one.looped) for one in exchanges(HLO)]
    assert found == [
        ("all-gather", 4, "jit(f)/E-step/while/x", True),
        ("all-reduce", 132, "", False),
        ("all-reduce", 5, "jit(f)/score/psum", False),
    ]
