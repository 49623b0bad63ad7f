"""Single-Path NAS: size, strings and codes of its spaces."""

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import SinglePathDigits, SinglePathImageNet, SinglePathImageNetSE

SPACE = SinglePathImageNet()
WINNER = "33 33 33 --|56 33 33 33|56 33 33 33|56 53 53 53|56 56 56 56"


def test_size_is_the_published_one():
    assert SPACE.size == 4**5 * 5**15
    assert f"{SPACE.size:.1e}" == "3.1e+13"
    assert SinglePathImageNetSE().size == 12**5 * 13**15
    assert SinglePathDigits().size == 10_000


def test_every_option_of_every_layer_is_decoded_as_what_it_is():
    # The reference exchanges 3x3 with expansion 6 and 5x5 with expansion 3.
    meaning = {"k3_e3": "33", "k5_e3": "53", "k3_e6": "36", "k5_e6": "56", "skip": "--"}
    for site, p in enumerate(SPACE.parameters):
        assert set(p.choices) == set(meaning) - ({"skip"} if site in SPACE.starts else set())
        for code, choice in enumerate(p.choices):
            row = np.zeros((1, 20), dtype=np.int64)
            row[0, site] = code
            (text,) = SPACE.to_string(row)
            words = text.replace("|", " ").split(" ")
            assert words[site] == meaning[choice]
            assert words[:site] + words[site + 1 :] == ["33"] * 19
            np.testing.assert_array_equal(SPACE.from_string([text]), row)
            if choice != "skip":
                block = SPACE.blocks[code]
                assert choice == f"k{block.kernel}_e{block.expansion}"


def test_the_winner_is_read_as_published():
    (row,) = SPACE.from_string([WINNER])
    assert row.tolist() == [0, 0, 0, 4, 3, 0, 0, 0, 3, 0, 0, 0, 3, 1, 1, 1, 3, 3, 3, 3]
    assert SPACE.to_string(row[None]) == [WINNER]


@pytest.mark.parametrize(
    "text", [WINNER.replace("|", " "), "-- " + WINNER[3:], WINNER + "|33", WINNER.replace("33", "34", 1), WINNER[:-1]]
)
def test_other_strings_are_refused(text):
    with pytest.raises(InputError, match="expected 20 layers such as"):
        SPACE.from_string([text])


def test_squeezes_are_part_of_the_words():
    space = SinglePathImageNetSE()
    row = np.full((1, 20), 4 + 2)
    row[0, 1] = space.skip
    row[0, 2] = 11
    (text,) = space.to_string(row)
    assert text.startswith("36s25 -- 56s50 36s25|36s25")
    np.testing.assert_array_equal(space.from_string([text]), row)


def test_skips_commute_within_their_stage():
    one, other, third = SPACE.from_string(
        [
            "33 53 -- 36|" + WINNER.split("|", 1)[1],
            "33 -- 53 36|" + WINNER.split("|", 1)[1],
            "33 36 -- 53|" + WINNER.split("|", 1)[1],
        ]
    )
    classes = SPACE.canonical(np.stack([one, other, third]))
    assert classes[0] == classes[1] != classes[2]
    assert SPACE.to_string(SPACE.representative(one[None]))[0].startswith("33 53 36 --|")
