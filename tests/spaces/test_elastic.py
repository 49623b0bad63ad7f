import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import Elastic

SPACE = Elastic()


def test_as_many_networks_as_stages_allow():
    one = 6 + 6**2 + 6**3
    assert one**3 == 17_173_512
    depths = np.indices((3, 3, 3)).reshape(3, -1).T
    rows = np.concatenate([depths, np.zeros((27, 18), np.int64)], axis=1)
    assert sum(6 ** int(n) for n in SPACE.active(rows).sum(axis=1)) == one**3


def test_strings_name_the_active_blocks():
    rows = SPACE.from_string(["k3e4-k5e2:k3e1:k5e4-k5e4-k3e2"])
    assert SPACE.active(rows).sum() == 6
    assert SPACE.to_params(rows)[0]["expand_1_2"] == 2
    assert SPACE.to_params(rows)[0]["kernel_3_1"] == 5
    assert SPACE.to_string(rows) == ["k3e4-k5e2:k3e1:k5e4-k5e4-k3e2"]


@pytest.mark.parametrize(
    "text", ["k3e4:k3e1", "k3e4:k3e1:k5e3", "k3e4:k3e1:k7e4", "k3e1-k3e1-k3e1-k3e1:k3e1:k3e1", "k3e1:k3e1:k3e1:k3e1"]
)
def test_other_strings_are_refused(text):
    with pytest.raises(InputError, match="not an elastic string"):
        SPACE.from_string([text])
