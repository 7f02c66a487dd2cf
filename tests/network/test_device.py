import time

import pytest
import torch
from accelerate.state import AcceleratorState

from mlworkbench import WorkbenchError
from mlworkbench.network.device import Precision, choose_device, choose_precision, join_processes, refuse_misfit


def test_auto_takes_what_was_measured_to_be_fastest():
    def step_in(precision):
        pause = 0.002 if precision == Precision("bf16", False) else 0.02
        return lambda: time.sleep(pause)

    with join_processes("cpu"):
        chosen = choose_precision("auto", step_in, images=8, steps=60)
    assert (chosen.name, chosen.channels_last) == ("bf16", False)
    speed = chosen.images_per_second
    assert list(speed) == ["fp32 channels_last", "fp32 contiguous", "bf16 channels_last", "bf16 contiguous"]
    assert max(speed, key=speed.get) == "bf16 contiguous" and 1000 < speed["bf16 contiguous"] <= 4000


@pytest.mark.parametrize("slower, chosen", [(1.02, "fp32"), (1.2, "bf16")])
def test_what_is_hardly_faster_is_not_worth_its_risk(monkeypatch, capsys, slower, chosen):
    """A clock that each step moves on by as much as it is said to take."""
    clock = [0.0]
    monkeypatch.setattr("mlworkbench.network.device.time.perf_counter", lambda: clock[0])

    def step_in(precision):
        return lambda: clock.__setitem__(0, clock[0] + (slower if precision.name == "fp32" else 1.0))

    with join_processes("cpu"):
        assert choose_precision("auto", step_in, images=8, steps=60).name == chosen
    how = "none is more than 5 % faster" if chosen == "fp32" else "it is the fastest"
    assert capsys.readouterr().out == f"precision: {chosen}; of fp32 and bf16 {how} here\n"


def test_a_short_training_is_not_kept_waiting_by_a_trial(capsys):
    with join_processes("cpu"):
        assert choose_precision("auto", lambda _: 1 / 0, images=8, steps=59) == Precision("fp32", True)
    assert capsys.readouterr().out == "precision: fp32; 59 steps are too few for a trial to pay\n"


def test_what_finds_no_memory_is_out():
    def step_in(precision):
        if precision.name == "bf16" and which != "neither":
            return lambda: time.sleep(0.001)
        raise torch.OutOfMemoryError("no more")

    which = "bf16"
    with join_processes("cpu"):
        chosen = choose_precision("auto", step_in, images=8, steps=60)
        assert chosen.name == "bf16" and chosen.images_per_second["fp32 contiguous"] == 0
        which = "neither"
        with pytest.raises(WorkbenchError, match="no memory for a step of 8 images; choose a smaller --batch"):
            choose_precision("auto", step_in, images=8, steps=60)


def test_a_precision_that_was_asked_for_is_not_measured():
    assert choose_precision("fp32", lambda _: 1 / 0, 8, 1000) == Precision("fp32", True)
    with pytest.raises(WorkbenchError, match="fp16 is for CUDA cards"):
        refuse_misfit("fp16", torch.device("cpu"))


def test_devices(monkeypatch):
    with join_processes("cpu") as processes:
        assert choose_device("cpu") == torch.device("cpu") == processes.device
    with pytest.raises(WorkbenchError, match="device 'warp' is not usable"), join_processes("warp"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(WorkbenchError, match="device 'cuda:1' with several processes"), join_processes("cuda:1"):
        pass


def test_one_session_may_train_in_one_precision_after_the_other():
    for name, expected in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        with join_processes("cpu"):
            assert Precision(name, True).accelerator().mixed_precision == expected
    assert not AcceleratorState._shared_state  # or a launcher in the same notebook would refuse


def test_a_configuration_of_accelerate_divides_no_loss(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    with join_processes("cpu"):
        assert Precision("fp32", True).accelerator().gradient_accumulation_steps == 1
