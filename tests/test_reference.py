"""The PyTorch reference: the weight port, tensor by tensor, and what the article's loop does to its network."""

import numpy as np
import pytest

from tfl.backbones import backbone
from tfl.comparison.reference.port import port_weights
from tfl.comparison.reference.setup import Setup, Start
from tfl.errors import CompareError
from tfl.heads import Reference
from tfl.specs import FeatureSpec

pytestmark = pytest.mark.torch
SPEC = FeatureSpec(weights="random", image_size=64)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Its threads wait for each other busily: beside other tests, two are many times slower than one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def keras_network():
    """Keras' ResNet50, every tensor random, statistics of BatchNorm and biases too."""
    built = backbone.build_backbone(SPEC)
    rng = np.random.default_rng(0)
    for weight in built.unpooled.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape).astype(np.float32))
    return built


@pytest.fixture(scope="module")
def tensors(keras_network):
    return {weight.path: np.asarray(weight) for weight in keras_network.unpooled.weights}


@pytest.fixture(scope="module")
def network():
    from tfl.comparison.reference.network import move_strides
    from tfl.comparison.reference.vision import import_torchvision

    made = import_torchvision().models.resnet50(weights=None)
    move_strides(made)
    return made


@pytest.fixture
def setup(tmp_path):
    return Setup(str(tmp_path), str(tmp_path / "cache.h5"), SPEC, Reference(epochs=1, batch_size=4), 3, 1, "keras", 4)


def test_every_tensor_of_the_port_has_its_name_and_shape(tensors, network):
    state = port_weights(tensors)
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    assert len(expected) == 53 * 5
    assert {name: array.shape for name, array in state.items()} == expected
    assert all(array.dtype == np.float32 for array in state.values())


def test_the_values_of_the_port(tensors):
    state = port_weights(tensors)
    np.testing.assert_array_equal(state["conv1.weight"][5, 0, 1, 2], tensors["conv1_conv/kernel"][1, 2, 2, 5])
    kernel = tensors["conv3_block1_2_conv/kernel"]
    np.testing.assert_array_equal(state["layer2.0.conv2.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["layer2.0.downsample.1.weight"], tensors["conv3_block1_0_bn/gamma"])
    mean, bias = tensors["conv5_block3_3_bn/moving_mean"], tensors["conv5_block3_3_conv/bias"]
    np.testing.assert_array_equal(state["layer4.2.bn3.running_mean"], mean - bias)


def test_feature_parity(keras_network, tensors, network, setup):
    """The same tensors and the same pixels: the same features."""
    import torch

    from tfl.comparison.reference.network import load_tensors, preprocess

    load_tensors(network, port_weights(tensors))
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    inputs = preprocess(torch.from_numpy(images), setup)
    ours = np.asarray(keras_network.build_preprocessing()(keras_network.resize(images)))
    np.testing.assert_allclose(inputs.numpy().transpose(0, 2, 3, 1)[..., ::-1], ours, atol=1e-3)
    network.eval()
    network.fc = torch.nn.Identity()
    with torch.inference_mode():
        theirs = network(inputs).numpy()
    expected = np.asarray(keras_network.model(images))
    assert np.abs(theirs - expected).max() < 1e-4 * np.abs(expected).max()


def test_tensors_of_another_shape_are_refused(tensors, network):
    from tfl.comparison.reference.network import load_tensors

    state = port_weights(tensors)
    with pytest.raises(ValueError, match=r"odd ones: \[\('bn1.bias', \(3,\)\), \('bn1.bias', \(64,\)\)\]"):
        load_tensors(network, {**state, "bn1.bias": np.zeros(3, np.float32)})


def test_the_articles_loop_drifts_and_differentiates_everything(setup):
    import torch

    from tfl.comparison.reference import article

    class TurnTaker:
        def end_turn(self, stage, num_images):
            stages.append((stage, num_images))

    stages = []
    network = torch.nn.Sequential()
    network.add_module("conv", torch.nn.Conv2d(3, 2, 3))
    network.add_module("norm", torch.nn.BatchNorm2d(2))
    network.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
    network.add_module("flat", torch.nn.Flatten())
    network.add_module("fc", torch.nn.Linear(2, 3))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))]
    article._train(network, batches, setup, TurnTaker())
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    drifted = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert changed == {"fc.weight", "fc.bias"} | drifted
    assert network.conv.weight.grad.abs().max() > 0
    assert network.training
    assert stages == [("start-up", 4), ("train", 2)]


def test_a_readers_transform_is_within_rounding_of_ours(setup):
    import torch

    from tfl.comparison.reference.article import make_transform
    from tfl.comparison.reference.network import preprocess

    image = np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    by_pil = make_transform(setup)(image)
    (ours,) = preprocess(torch.from_numpy(image[None]), setup)
    assert 0 < float((by_pil - ours).abs().max()) <= 1.01  # PIL rounds to whole levels, twice


def test_torchvisions_weights_at_hand_or_not(tmp_path, monkeypatch, network):
    import hashlib

    import torch

    from tfl.comparison.reference.network import _torchvision_state

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CompareError, match=r"there is no file .*resnet50-01234567.pth; download https://host/resnet50"):
        _torchvision_state("https://host/resnet50-01234567.pth")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"fc.bias": torch.ones(2)}, tmp_path / "checkpoints" / "new.pth")
    digest = hashlib.sha256((tmp_path / "checkpoints" / "new.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "checkpoints" / "new.pth").rename(tmp_path / "checkpoints" / f"resnet50-{digest}.pth")
    assert list(_torchvision_state(f"https://host/resnet50-{digest}.pth")) == ["fc.bias"]
    (tmp_path / "checkpoints" / f"resnet50-{digest}.pth").rename(tmp_path / "checkpoints" / "resnet50-01234567.pth")
    with pytest.raises(CompareError, match="expected 01234567"):
        _torchvision_state("https://host/resnet50-01234567.pth")


def test_a_start_moves_into_a_linear_layer(setup):
    import torch

    from tfl.comparison.reference.head import Trainer

    kernel, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)
    layer = Trainer(Start(kernel, bias, np.zeros((1, 1))), setup.recipe, torch.device("cpu")).layer
    rows = np.array([[1.0, 2.0]], np.float32)
    np.testing.assert_allclose(layer(torch.from_numpy(rows)).detach().numpy(), rows @ kernel + bias)


def test_a_setup_is_what_was_saved(setup):
    setup.save()
    assert Setup.load(setup.folder) == setup
