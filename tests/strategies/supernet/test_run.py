"""A run on disk: trained once, resumed to the same bits, refused where it is another's."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasplug.errors import DataError, InputError, MissingDependencyError, TrainingError
from nasplug.spaces import NASBench201
from nasplug.strategies.supernet.method import Method, Selection
from nasplug.strategies.supernet.run import Run

SPACE = NASBench201()


class Counting(Method):
    """Adds a draw to a number, stage after stage; selects by it."""

    stages = 4
    trained = 0
    dies_in: int | None = None
    diverges_in: int | None = None

    def __init__(self) -> None:
        self.value = torch.zeros(1, dtype=torch.float64)

    def _advance(self) -> Selection:
        if self.done == type(self).dies_in:
            raise KeyboardInterrupt
        if self.done == type(self).diverges_in:
            raise TrainingError("the loss became nan in epoch 7")
        type(self).trained += 1
        self.value += float(np.random.default_rng([1, self.done]).random())
        return Selection(SPACE.all()[None, int(self.value * 1000)], {"value": float(self.value)})

    def _state(self) -> dict[str, Any]:
        return {"value": self.value}

    def _restore(self, state: Any) -> None:
        self.value = state["value"].clone()


@pytest.fixture(autouse=True)
def _anew() -> None:
    Counting.trained, Counting.dies_in, Counting.diverges_in = 0, None, None


def run(folder: Path, **facts: Any) -> Run:
    return Run(folder, {"seed": 0} | facts, SPACE, Counting, Counting.stages)


def all_of(made: Run) -> list[Any]:
    found = [made.selection(stage) for stage in range(made.stages)]
    return [(one.ranking.tolist(), one.facts) for one in found if one is not None]


def test_every_stage_is_trained_once_and_read_ever_after(tmp_path):
    expected = all_of(run(tmp_path / "a"))
    assert Counting.trained == 4
    assert all_of(run(tmp_path / "a")) == expected
    assert Counting.trained == 4
    assert run(tmp_path / "a").selection(4) is None


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_run_that_was_killed_goes_on_to_the_same_result(tmp_path, stage):
    expected = all_of(run(tmp_path / "whole"))
    Counting.dies_in = stage
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed").selection(3)
    Counting.dies_in, Counting.trained = None, 0
    assert all_of(run(tmp_path / "killed")) == expected
    assert Counting.trained == 4 - stage


def test_killed_between_its_two_files_a_stage_is_trained_again_to_the_same_result(tmp_path):
    expected = all_of(run(tmp_path / "whole"))
    made = run(tmp_path / "killed")
    made.selection(1)
    earlier = made.checkpoint.read_bytes()
    made.selection(2)
    made.checkpoint.write_bytes(earlier)  # as if stage 2 had been written, and its checkpoint not
    assert all_of(run(tmp_path / "killed")) == expected


def test_a_lost_selection_is_made_again_from_the_start(tmp_path):
    expected = all_of(run(tmp_path))
    (tmp_path / "stage-0001.json").unlink()
    Counting.trained = 0
    assert all_of(run(tmp_path)) == expected
    assert Counting.trained == 2


def test_two_at_once_train_every_stage_once_between_them(tmp_path):
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(all_of(run(tmp_path)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2]
    assert Counting.trained == 4


def test_a_method_at_its_end_comes_from_the_checkpoint(tmp_path):
    expected = float(all_of(run(tmp_path))[-1][1]["value"])
    method = run(tmp_path).method()
    assert isinstance(method, Counting)
    assert (method.done, float(method.value)) == (4, expected)


@pytest.mark.parametrize("lost", ["the checkpoint", "its last stage", "a selection", "nothing"])
def test_a_method_is_at_its_end_whatever_was_lost(tmp_path, lost):
    made = run(tmp_path)
    made.selection(2)
    earlier = made.checkpoint.read_bytes()
    expected = all_of(made)
    if lost == "the checkpoint":
        made.checkpoint.unlink()
    elif lost == "its last stage":  # killed between the two files of the last stage
        made.checkpoint.write_bytes(earlier)
    elif lost == "a selection":
        (tmp_path / "stage-0001.json").unlink()
        run(tmp_path).selection(1)  # which rewinds the checkpoint
    method = run(tmp_path).method()
    assert isinstance(method, Counting)
    assert (method.done, float(method.value)) == (4, expected[-1][1]["value"])
    assert torch.load(made.checkpoint, weights_only=True)["done"] == 4
    assert all_of(run(tmp_path)) == expected


def test_threads_that_share_a_run_see_every_stage_in_its_place(tmp_path):
    expected = all_of(run(tmp_path / "alone"))
    shared, found = run(tmp_path / "shared"), []
    threads = [threading.Thread(target=lambda: found.append(all_of(shared))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_without_torch_a_finished_run_is_read_and_training_is_one_clear_error(tmp_path, monkeypatch):
    expected = all_of(run(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert all_of(run(tmp_path)) == expected
    with pytest.raises(MissingDependencyError, match=r"training a supernet needs the package 'torch'; pip install"):
        run(tmp_path / "new").selection(0)


def test_what_an_error_leaves_behind_is_not_gone_on_from(tmp_path):
    class Refuses(Counting):
        refusals = 2

        def _advance(self) -> Selection:
            selection = super()._advance()
            if self.done == 1 and type(self).refusals:
                type(self).refusals -= 1
                raise InputError("nothing is affordable")
            return selection

    made = Run(tmp_path / "refused", {"seed": 0}, SPACE, Refuses, Refuses.stages)
    for _ in range(2):
        with pytest.raises(InputError, match="nothing is affordable"):
            made.selection(3)
    assert all_of(made) == all_of(run(tmp_path / "whole"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    for seed in (0, 1):
        run(tmp_path / str(seed), seed=seed).selection(1)
    (tmp_path / "1" / "checkpoint.pt").replace(tmp_path / "0" / "checkpoint.pt")
    with pytest.raises(DataError, match="it is of a run of other settings"):
        run(tmp_path / "0", seed=0).selection(3)


def test_a_folder_of_another_run_is_refused(tmp_path):
    run(tmp_path).selection(0)
    with pytest.raises(DataError, match="holds a run of other settings, or of another version"):
        run(tmp_path, seed=1).selection(0)


def test_a_loss_that_is_no_number_names_the_stage_and_the_last_good_checkpoint(tmp_path):
    Counting.diverges_in = 2
    with pytest.raises(TrainingError, match=r"nan in epoch 7, in stage 3 of 4; the last good checkpoint is .*\.pt"):
        run(tmp_path).selection(3)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["done"] == 2
    Counting.diverges_in = 0
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        run(tmp_path / "other").selection(0)


def test_a_state_that_no_longer_works_leaves_the_sound_one_before_it(tmp_path, monkeypatch):
    made = run(tmp_path)
    made.selection(0)
    monkeypatch.setattr(Counting, "sound", False)
    made.selection(2)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["done"] == 3
    assert torch.load(tmp_path / "sound.pt", weights_only=True)["done"] == 1  # not the unsound one after it
    Counting.diverges_in = 3
    with pytest.raises(TrainingError, match=r"in stage 4 of 4; the last good checkpoint is .*sound\.pt"):
        run(tmp_path).selection(3)
    Counting.diverges_in = None
    monkeypatch.setattr(Counting, "sound", True)
    run(tmp_path).selection(3)
    assert not (tmp_path / "sound.pt").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cos\nsystem\n."])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    run(tmp_path).selection(0)
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"checkpoint\.pt is damaged or of another supernet"):
        run(tmp_path).selection(1)


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    run(tmp_path).selection(0)
    torch.save({"done": 1, "weights": torch.zeros(3)}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match=r"of another supernet \(KeyError"):
        run(tmp_path).selection(1)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"ranking": [[9, 9, 9, 9, 9, 9]], "facts": {}}', '{"ranking": [[0, 1]], "facts": {}}',
     '{"ranking": [[0, 0, 0, 0, 0, 0]], "facts": 3}', '{"ranking": [[0], [0, 1]], "facts": {}}'],
)  # fmt: skip
def test_a_damaged_selection_is_named(tmp_path, content):
    run(tmp_path).selection(0)
    (tmp_path / "stage-0000.json").write_text(content)
    with pytest.raises(DataError, match=r"stage-0000\.json is damaged .* remove it to train the stage again"):
        run(tmp_path).selection(0)


def test_a_stage_may_select_nothing(tmp_path):
    run(tmp_path).selection(0)
    (tmp_path / "stage-0000.json").write_text(json.dumps({"ranking": [], "facts": {}}))
    selection = run(tmp_path).selection(0)
    assert selection is not None
    assert selection.ranking.shape == (0, 6)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        run(tmp_path / "file" / "run").selection(0)
