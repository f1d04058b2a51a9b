"""Several arrays into one, and the ways back."""

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numba.rules.channels import rows

RULES = {
    **dict.fromkeys(("concat", "slice_channels", "shortcut_pad", "shortcut_pad_dx", "channel_shuffle"), Rule()),
    **dict.fromkeys(("scale_channels", "scale_channels_dgate"), Rule(scratch=lambda i, o, a: (rows(1, i[0]),))),
}
