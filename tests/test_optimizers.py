"""Muon: its steps on matrices, and the parameters it leaves to AdamW."""

import copy
import math

import pytest
import torch
from tests.tiny import regressor
from torch import Tensor, nn

from triptych.optimizers import Muon, orthogonal

SHAPES = [(6, 6), (4, 9), (9, 4), (16, 144), (1, 5)]


def stepped(parameter: Tensor, gradient: Tensor, **settings: float) -> Tensor:
    """Return the parameter after one step of Muon."""
    parameter = nn.Parameter(parameter.clone())
    parameter.grad = gradient.clone()
    Muon([parameter], **{"lr": 0.1, "weight_decay": 0.0, **settings}).step()
    return parameter.detach()


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def train(network: nn.Module, optimizer: Muon, steps: range) -> None:
    for seed in steps:
        inputs = torch.rand(5, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_keeps_singular_vectors_and_equalises_singular_values(shape: tuple[int, int]):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    found = orthogonal(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ found @ right.T
    values = turned.diagonal()
    assert ((values > 0.65) & (values < 1.25)).all()
    assert torch.allclose(turned, torch.diag(values), atol=1e-3)


def test_zero_gradient_gives_no_step():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))
    weight = torch.rand(3, 4)
    assert torch.equal(stepped(weight, torch.zeros(3, 4)), weight)


def test_step_size_matches_adam():
    weight, gradient = torch.zeros(16, 144), torch.randn(16, 144, generator=torch.Generator().manual_seed(0))
    size = stepped(weight, gradient, lr=0.1).square().mean().sqrt()
    # 0.2 is the root mean square of AdamW's updates over a whole training, in units of the learning rate.
    assert size.item() == pytest.approx(0.1 * 0.2, rel=0.2)
    assert (stepped(weight, gradient, lr=0.1) * gradient).sum() < 0


def test_convolution_kernel_is_treated_as_a_matrix():
    kernel, gradient = torch.randn(2, 8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = stepped(kernel.flatten(1), gradient.flatten(1))
    assert torch.allclose(stepped(kernel, gradient).flatten(1), expected)
    last = {"memory_format": torch.channels_last}
    assert torch.allclose(stepped(kernel.to(**last), gradient.to(**last)).flatten(1), expected, atol=1e-6)


def test_stacked_matrices_are_updated_independently():
    stack, gradient = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    apart = [stepped(*pair, weight_decay=0.3) for pair in zip(stack, gradient, strict=True)]
    assert torch.allclose(stepped(stack, gradient, weight_decay=0.3), torch.stack(apart))


def test_group_without_matrices_is_left_to_adamw():
    value, gradient = torch.rand(2, 3, 4)
    muon, adamw = nn.Parameter(value.clone()), nn.Parameter(value.clone())
    muon.grad = adamw.grad = gradient
    Muon([{"params": [muon], "matrices": False}], lr=0.1, weight_decay=0.3).step()
    torch.optim.AdamW([adamw], lr=0.1, weight_decay=0.3).step()
    assert torch.equal(muon, adamw)


def test_biases_of_packed_networks_are_left_to_adamw():
    network = {"_target_": "triptych.networks.packed.PackedMlp", "members": 2, "width": 4, "depth": 1}
    model = regressor(network=network, optimizer={"_target_": "triptych.optimizers.Muon", "lr": 0.01})
    model.loss(model(torch.rand(5, 3)), torch.rand(5)).backward()
    optimizer = model.make_optimizer()
    optimizer.step()
    names = {parameter: name for name, parameter in model.network.named_parameters()}
    by_muon = [names[weight] for weight, state in optimizer.state.items() if "momentum_buffer" in state]
    assert by_muon == ["layers.0.weight"]  # in the last layer, each network's weights are a single column


@pytest.mark.parametrize("shape", [(7,), (1, 7), (7, 1), (3, 1, 7), (1, 1, 3, 3), ()])
def test_vectors_and_scalars_are_left_to_adamw(shape: tuple[int, ...]):
    value, gradient = torch.rand(shape), torch.rand(shape)
    expected = nn.Parameter(value.clone())
    expected.grad = gradient
    torch.optim.AdamW([expected], lr=0.1, weight_decay=0.3).step()
    assert torch.equal(stepped(value, gradient, weight_decay=0.3), expected.detach())


def test_weight_decay_is_decoupled_from_the_gradient():
    weight = torch.rand(3, 4)
    assert torch.allclose(stepped(weight, torch.zeros(3, 4), weight_decay=0.5), weight * (1 - 0.1 * 0.5))


def test_momentum_moves_the_weights_without_a_new_gradient():
    weight = nn.Parameter(torch.zeros(3, 4))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
    weight.grad = torch.randn(3, 4)
    optimizer.step()
    before = weight.detach().clone()
    weight.grad = torch.zeros(3, 4)
    optimizer.step()
    assert not torch.equal(weight, before)


def test_step_leaves_gradients_unchanged():
    network = layers()
    optimizer = Muon(network.parameters())
    network(torch.rand(5, 2, 4, 4)).sum().backward()
    before = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    optimizer.step()
    after = [parameter.grad for parameter in network.parameters()]
    assert len(before) == len(after)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_parameter_without_gradient_is_unchanged():
    weight = nn.Parameter(torch.rand(3, 4))
    before = weight.detach().clone()
    Muon([weight]).step()
    assert torch.equal(weight, before)


def test_overflowing_loss_scale_skips_the_step():
    weights = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3))]
    optimizer = Muon(weights, lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    scaler.scale(torch.ones(()))  # the scaler is initialised by its first loss
    for gradient, moves in ((1.0, True), (math.inf, False), (1.0, True)):
        before = [weight.detach().clone() for weight in weights]
        for weight in weights:
            weight.grad = torch.full_like(weight, gradient) * scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        assert all(weight.isfinite().all() for weight in weights)
        assert all(torch.equal(weight, old) != moves for weight, old in zip(weights, before, strict=True))
    # The momentum is that of the unscaled gradients.
    assert optimizer.state[weights[0]]["momentum_buffer"].max() < 1


def test_closure_is_called_once_with_gradients_enabled():
    network, calls = layers(), []
    optimizer = Muon(network.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = network(torch.rand(5, 2, 4, 4)).sum()
        loss.backward()
        calls.append(loss)
        return loss

    assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1


def test_training_resumes_exactly_from_the_state_dict():
    whole = layers()
    train(whole, Muon(whole.parameters()), range(6))
    part = layers()
    optimizer = Muon(part.parameters())
    train(part, optimizer, range(3))
    state = copy.deepcopy(optimizer.state_dict())
    resumed = Muon(part.parameters(), lr=1.0)
    resumed.load_state_dict(state)
    train(part, resumed, range(3, 6))
    for expected, found in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_makes_the_same_steps():
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 2, 3, 3), (32, 16, 3, 3), (8, 40), (7,)]
    here = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    there = [nn.Parameter(weight.detach().cuda()) for weight in here]
    there[1].data = there[1].data.to(memory_format=torch.channels_last)
    optimizers = [Muon(weights, lr=0.1) for weights in (here, there)]
    for step in range(5):
        frozen = step == 3  # one gradient is missing, as if a batch had not reached that layer
        for one, other in zip(here, there, strict=True):
            one.grad = None if frozen and one is here[2] else torch.randn(one.shape, generator=generator)
            other.grad = None if one.grad is None else one.grad.cuda()
        for optimizer in optimizers:
            optimizer.step()
        torch._C._cuda_clearCublasWorkspaces()  # as torch does when another CUDA graph is recorded
        torch.cuda.empty_cache()
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_error_for_invalid_momentum_names_the_key(momentum: float):
    with pytest.raises(ValueError, match=r"optimizer\.momentum"):
        Muon([nn.Parameter(torch.rand(2, 2))], momentum=momentum)
