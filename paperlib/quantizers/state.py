"""What the state dict of a quantizer says beside its numbers: what they are the numbers of."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError

EXTRA = "_extra_state"      # torch's name for it


class Stateful(nn.Module):
    """A quantizer's memory of what it is.

    Its state dict holds, under "_extra_state", whether there is a range, 1 or 0, and the letters of :meth:`form`: a
    float32 tensor of whole numbers, so that clones, casts and averages of state dicts keep it.
    """

    variant = ""        # what the method's own options make of it, where neither grid nor parameters show it

    def form(self) -> str:
        """Say in one line what the parameters mean: method, bits, grid and shape of the range."""
        variant = f", {self.variant}" if self.variant else ""
        return (f"{type(self).__name__}(bits={self.bits}, signed={self.signed}, floor={self.floor:.4g}, "
                f"shape={tuple(self.shape)}, codes={self.grid.code_min}..{self.grid.code_max}{variant})")

    def adopt(self, old: Stateful) -> None:
        """Take the range of ``old``, of the same method and with the same parameters, whatever its bits."""
        self.load_state_dict({**old.state_dict(), EXTRA: {"calibrated": old.calibrated}})

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.calibrated, *self.form().encode()], dtype=torch.float32, device="cpu")

    def set_extra_state(self, state: Tensor | dict) -> None:
        self.calibrated, _ = _read(state)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Load as torch does; InputError for the state of another method, other bits or another grid."""
        try:
            _, form = _read(state_dict[prefix + EXTRA]) if prefix + EXTRA in state_dict else (False, None)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise InputError(f"{prefix}{EXTRA} in the state dict is damaged: save the network again") from error
        if form not in (None, self.form()):
            raise InputError(f"{prefix.removesuffix('.') or 'this quantizer'} is {form} in the state dict and "
                             f"{self.form()} in the network: quantize the network with the scheme that the state was "
                             "saved with, and with models.quantize once more to change its bits")
        super()._load_from_state_dict(state_dict, prefix, *args)


def _read(state: Tensor | dict) -> tuple[bool, str | None]:
    """Return (calibrated, form) of an extra state; the first versions kept a dict, without form."""
    if isinstance(state, dict):
        return bool(state["calibrated"]), None
    calibrated, *letters = state.detach().double().round().int().tolist()
    return bool(calibrated), bytes(letters).decode("ascii")
