"""A teacher whose answers are kept says the same as one that is asked every time."""
import pytest
import torch
from torch import nn

from paperlib.training.remembered import Remembered


@pytest.fixture
def images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


def teacher(folder, calls):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    net.register_forward_hook(lambda *_: calls.append(1))
    return Remembered(net.eval(), folder)


def test_it_is_asked_once_for_each_batch(images, tmp_path):
    calls = []
    first = teacher(tmp_path / "new", calls)
    said = [first(x) for x in (images, images[:3], images.flip(3))]
    assert len(calls) == 3 and torch.equal(said[0], first.net(images)) and not said[0].requires_grad
    calls.clear()
    again = [teacher(tmp_path / "new", calls)(x) for x in (images, images[:3], images.flip(3).contiguous())]
    assert not calls and all(torch.equal(*pair) for pair in zip(said, again))


def test_a_damaged_file_is_made_anew(images, tmp_path):
    calls = []
    said = teacher(tmp_path, calls)(images)
    file, = tmp_path.glob("*/*.pt")
    whole = file.read_bytes()
    file.write_bytes(whole[:-50] + bytes(50))
    assert torch.equal(teacher(tmp_path, calls)(images), said) and len(calls) == 2
    assert file.read_bytes() == whole


def test_a_teacher_of_other_weights_is_asked_itself(images, tmp_path):
    one, other = teacher(tmp_path, []), teacher(tmp_path, []).net
    one(images)
    other[0].weight.data *= 2
    assert torch.equal(Remembered(other, tmp_path)(images), other(images))


def test_a_folder_that_cannot_be_written_is_no_fault(images, tmp_path):
    (tmp_path / "file").write_text("")
    calls = []
    net = teacher(tmp_path / "file" / "folder", calls)
    assert torch.equal(net(images), net(images)) and len(calls) == 2
