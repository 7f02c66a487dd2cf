"""Begin with a run's own weights."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mlworkbench import Run, WorkbenchError, fit, read_labels
from mlworkbench.cli import main
from mlworkbench.runs import folder as folder_of
from mlworkbench.runs import starting_network


@pytest.mark.parametrize("end", ["", folder_of.BEST, folder_of.LAST])
def test_a_run_gives_its_weights_and_classes_of_the_same_name_their_rows(tiny_run, end, caplog):
    names = ["new", tiny_run.class_names[7], tiny_run.class_names[2]]
    network = starting_network(str(tiny_run.folder / end), names)
    theirs = load_file(tiny_run.folder / (end or folder_of.BEST))
    state = network.net.state_dict()
    assert network.trained and state.keys() == theirs.keys() and network.class_names == names
    for name, values in theirs.items():
        if ".linear." not in name:
            assert torch.equal(state[name], values), name
            continue
        assert torch.equal(state[name][1:], values[[7, 2]]) and not torch.equal(state[name][0], values[0])
    (line,) = caplog.messages
    assert "2 of 3 classes keep their weights" in line and line.endswith("new are new")
    assert all(p.requires_grad for p in network.parameters()) and network.training


def test_a_run_of_the_same_classes_says_at_once_what_the_other_does(tiny_run):
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(
            starting_network(str(tiny_run.folder), tiny_run.class_names).eval()(images), tiny_run.model(images)
        )


def test_what_is_no_run_is_told(tmp_path, tiny_run):
    shutil.copy(tiny_run.folder / folder_of.BEST, tmp_path / "best.safetensors")
    for model in (tmp_path / "best.safetensors", tmp_path):
        with pytest.raises(
            WorkbenchError, match=r"holds no run \(no run.json\).* give a run's folder, NAME.yaml or NAME.pt"
        ):
            starting_network(str(model), ["a"])
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(tiny_run.folder / folder_of.STATE, tmp_path / "run")
    with pytest.raises(WorkbenchError, match="best.safetensors does not exist"):
        starting_network(str(tmp_path / "run"), ["a"])


def test_a_training_begins_with_it_and_resumes_without_it(tiny_run, demo_labels, tmp_path):
    shutil.copytree(tiny_run.folder, tmp_path / "a")
    more = {"epochs": 1, "image_size": 32, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-9}
    run = fit(demo_labels, tmp_path / "b", model=str(tmp_path / "a"), **more)
    old, new = (load_file(tmp_path / name / folder_of.BEST) for name in "ab")
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old if old[name].ndim == 4)
    assert run.state["settings"]["model"] == str(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    fit(read_labels(demo_labels), tmp_path / "b", resume=True, epochs=2)
    assert len(Run(tmp_path / "b").history) == 2


def test_more_epochs_train_on_and_say_how(tiny_run, demo_labels, tmp_path, caplog, capsys):
    """The same rates as the loop itself uses, and no change to what is done already."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    before = (folder / folder_of.HISTORY).read_text().splitlines()
    command = ["train", str(demo_labels), "--run", str(folder), "--resume", "--epochs"]
    assert (
        main([*command, "1"]) == 2 and "epochs is 1, but the run to resume has 2; give more" in capsys.readouterr().err
    )
    assert main([*command, "2"]) == 0 and "is finished with its 2 epochs; give more to train on" in caplog.messages[-1]
    caplog.clear()
    assert main([*command, "4"]) == 0
    after = (folder / folder_of.HISTORY).read_text().splitlines()
    assert after[: len(before)] == before and len(after) == 5 and Run(folder).status == "finished"
    told = next(line for line in caplog.messages if line.startswith("goes on from epoch 2 to 4 instead of 2"))
    rates = Run(folder).history.lr.to_numpy() / Run(folder).state["settings"]["learning_rate"]
    assert rates[2] < float(re.search(r"next ([\d.]+) of its peak", told)[1]) < 1 and rates[3] == 0
    assert Run(folder).state["settings"]["epochs"] == 4


def test_a_run_that_patience_ended_names_the_way_that_trains_on(demo_labels, tmp_path, caplog):
    small = {"image_size": 32, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-9, "ema": 0.0}
    run = fit(demo_labels, tmp_path / "run", epochs=30, patience=1, **small)
    done = len(run.history)
    assert done < 30
    state = (run.folder / folder_of.STATE).read_bytes()
    with pytest.raises(WorkbenchError, match=f"ended after {done} epochs") as caught:
        fit(demo_labels, run.folder, resume=True, epochs=40)
    assert (run.folder / folder_of.STATE).read_bytes() == state
    model = re.search(r"--model (\S+)$", str(caught.value))[1]
    fit(demo_labels, tmp_path / "next", model=model, epochs=1, **small)
