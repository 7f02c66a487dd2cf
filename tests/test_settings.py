import pytest

from mlworkbench import WorkbenchError
from mlworkbench.settings import Settings, typed


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; expected one of model,"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"batch_size": 8, "accumulate": 5}, "batch_size 8 in 5 pieces; expected 2 images in each"),
        ({"seed": -1}, "seed is -1"),
        ({"patience": True}, "patience is True"),
        ({"image_size": 1.5}, "image_size is 1.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"backbone_rate": 2.0}, "backbone_rate is 2.0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"cache_gb": float("nan")}, "cache_gb is nan"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"positive_weight": 0.5}, "positive_weight is 0.5"),
        ({"positive_weight": 3.0, "loss": "asl"}, "above it only bce"),
        ({"precision": "int8"}, "precision 'int8'"),
        ({"loss": "focal"}, "loss 'focal'; expected one of bce, asl"),
        ({"route": "magic"}, "route 'magic'"),
    ],
)
def test_settings_are_strict(settings, part):
    with pytest.raises(WorkbenchError) as caught:
        Settings.of(**settings)
    assert part in str(caught.value)


def test_a_resumed_run_keeps_its_settings_but_may_move():
    saved = vars(Settings(epochs=9, workers=1))
    assert Settings.resumed(saved, {"epochs": 9, "workers": 4, "device": "cpu"}) == Settings(
        epochs=9, workers=4, device="cpu"
    )
    with pytest.raises(WorkbenchError, match="epochs is 20, but the run to resume has 9"):
        Settings.resumed(saved, {"epochs": 20})
    with pytest.raises(WorkbenchError, match="unknown setting 'epoch'"):
        Settings.resumed(saved, {"epoch": 20})


def test_values_as_people_write_them():
    assert typed("patience", "5") == 5 and typed("ema", "0.9") == 0.9 and typed("crop", "True") is True
    assert typed("backbone_rate", "0.1") == 0.1 and typed("model", "7") == "7"
    for name, text, kind in (
        ("patience", "5.5", "a whole number"),
        ("crop", "perhaps", "true or false"),
        ("ema", "x", "a number"),
    ):
        with pytest.raises(WorkbenchError, match=f"{name} is '{text}'; expected {kind}"):
            typed(name, text)
