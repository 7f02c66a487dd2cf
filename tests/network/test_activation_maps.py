import numpy as np
import pytest
import torch

from mlworkbench import WorkbenchError, build_model
from mlworkbench.network.activation_maps import distance, maps, peaks

FAMILIES = ("yolov8n-cls.yaml", "yolo11n-cls.yaml", "yolo12n-cls.yaml", "yolo26n-cls.yaml")


def network(family="yolov8n-cls.yaml", classes=3):
    """A random network that tells places apart: with norms that have never seen an image it hardly would."""
    torch.manual_seed(0)
    model = build_model(family, [str(c) for c in range(classes)])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(torch.rand(8, 3, 64, 64))
    with torch.no_grad():
        model.head.weight.normal_(0, 0.05)
        model.head.bias.normal_()
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_of_a_map_and_the_bias_is_the_logit(family):
    model, images = network(family), torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        logits = model.eval()(images)
    found = maps(model.train(), images)
    assert found.shape == (2, 3, 3, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean((2, 3)) + model.head.bias.detach().numpy(), logits, atol=1e-4)
    assert np.ptp(found, axis=(2, 3)).min() > 0.01


def test_the_network_stays_as_it_is_whatever_its_mode_and_precision():
    model, images = network(), torch.rand(2, 3, 64, 64)
    model.eval()
    model.net.model[-1].train()  # only a part of it trains
    model.head.weight.requires_grad_(False)
    modes, before = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    plain = maps(model, images)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(maps(model, images), plain)
    assert [m.training for m in model.modules()] == modes and not model.head.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())
    model.exclusive = True  # a softmax's logits, not the odds that `forward` makes of them
    np.testing.assert_array_equal(maps(model, images), plain)


def test_a_fine_map_holds_the_maps_of_shifted_images():
    """The cells 12 px right of and 4 px below the coarse ones are those of the image moved left and up by as much."""
    model, images = network(), torch.rand(1, 3, 96, 96)
    found = maps(model, images, 4)
    assert found.shape == (1, 3, 12, 12)
    moved = torch.nn.functional.pad(images, (0, 12, 0, 4), mode="replicate")[:, :, 4:, 12:]
    np.testing.assert_allclose(found[:, :, 2::4, 3::4], maps(model, moved), atol=1e-4)
    moved = torch.nn.functional.pad(images, (4, 0, 12, 0), mode="replicate")[:, :, :96, :96]
    np.testing.assert_allclose(found[:, :, 0::4, 1::4], maps(model, moved), atol=1e-4)
    assert np.abs(found[:, :, 2::4, 3::4] - maps(model, images)).max() > 0.01


def test_the_peak_follows_a_spot(monkeypatch):
    """A network that sees nothing but brightness: its map's peak is where the light is."""
    from mlworkbench.network import activation_maps as cam

    def brightness(net, images):
        return torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 32).numpy()

    monkeypatch.setattr(cam, "_coarse", brightness)
    for x, y in ((10, 70), (50, 22), (88, 44)):
        images = torch.zeros(1, 3, 96, 128)
        images[:, :, y - 3 : y + 4, x - 3 : x + 4] = 1
        for fine, near in ((1, 16), (4, 16), (8, 16)):
            found = peaks(maps(network(), images, fine), (96, 128))
            assert np.abs(found[0, 0] - (x, y)).max() <= near


def test_peaks_are_the_middle_of_the_strongest_cell_in_pixels():
    found = np.zeros((2, 1, 3, 4), np.float32)
    found[0, 0, 2, 1], found[1, 0, 0, 3] = 1, 1
    assert peaks(found, (96, 128)).tolist() == [[[48, 80]], [[112, 16]]]
    assert peaks(found[0, 0], (48, 64)).tolist() == [24, 40]


@pytest.mark.parametrize("fine", [0, -2, 3, 32])
def test_what_cannot_be_interleaved_is_refused(fine):
    with pytest.raises(
        WorkbenchError, match=f"a map {fine} times as fine of images 64x64; expected a power of two up to 16"
    ):
        maps(network(), torch.rand(1, 3, 64, 64), fine)


def test_sides_that_are_no_multiples_of_the_stride_are_refused_for_fine_maps_only():
    assert maps(network(), torch.rand(1, 3, 90, 64)).shape == (1, 3, 3, 2)
    with pytest.raises(WorkbenchError, match="images 64x90; .* sides that are multiples of 32"):
        maps(network(), torch.rand(1, 3, 90, 64), 2)


def test_the_distance_of_a_map_from_the_logit():
    model, images = network(), torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        logits = model.eval()(images).numpy()
    bias = model.head.bias.detach().numpy()
    for fine in (1, 4):
        found = maps(model, images, fine)
        np.testing.assert_allclose(distance(model, images, found), found.mean((2, 3)) + bias - logits, atol=1e-4)
    assert np.abs(distance(model, images, maps(model, images))).max() < 1e-5  # a plain map is exact
    assert np.abs(distance(model, images, found)).max() > 1e-3
