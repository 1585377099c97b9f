import pytest
import torch
import torch.nn.functional as F

from calr.camera_alignment import CameraClassifier, reverse_gradient


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (2, 3, 5)])
def test_values_pass_and_gradients_turn_round(shape: tuple[int, ...], strength: float) -> None:
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    factor = torch.randn(shape, dtype=torch.float64)
    out = reverse_gradient(values, strength)
    assert torch.equal(out, values)
    (out**2 * factor).sum().backward()
    torch.testing.assert_close(values.grad, -strength * 2 * values.detach() * factor)


def test_classifier_learns_while_features_are_pushed_the_other_way() -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 8)
    camera = (features[:, 0] > 0).long()
    classifier = CameraClassifier(8, 2)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(classifier(features), camera).backward()
        optimiser.step()
    accuracy = (classifier(features).argmax(1) == camera).float().mean()
    assert accuracy > 0.95  # the classifier's own gradients are not reversed, and its input is logits' worth
    classifier.eval()
    moved = features.clone().requires_grad_()
    before = F.cross_entropy(classifier(moved), camera)
    before.backward()
    after = F.cross_entropy(classifier(features - 0.1 * moved.grad / moved.grad.norm() * 8), camera)
    assert after > before  # following the reversed gradient makes the camera harder to tell


def test_output_is_unnormalised_logits_through_two_layers_of_100() -> None:
    classifier = CameraClassifier(16, 5)
    widths = [layer.out_features for layer in classifier.layers if isinstance(layer, torch.nn.Linear)]
    assert widths == [100, 100, 5]
    classifier.train()
    logits = classifier(torch.randn(12, 16))
    assert not torch.allclose(logits.softmax(1), logits)
    assert logits.min() < 0
