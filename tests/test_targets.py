"""What the student learns from the teacher, against scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from students import pictures

from edge.errors import UserError
from stages.detectors.student_network import EMBEDDING
from stages.graph.tensors import to_tensor
from stages.training.targets import EmbeddingTargets, principal_components

torch.set_num_threads(1)


class Teacher(torch.nn.Module):
    """Embeddings of `channels` random filters at stride 4."""

    def __init__(self, channels: int):
        super().__init__()
        torch.manual_seed(0)
        self.filters = torch.nn.Conv2d(3, channels, 5, 4, 2)

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.filters(images).relu() + 3


@pytest.mark.parametrize(("channels", "side"), [(40, 4), (40, 16), (12, 4)])
def test_targets_are_half_whitened_principal_components(channels, side):
    """Of features averaged over each cell of the grid; missing ones are 0, and the mean square of the others is 1."""
    teacher, train, new = Teacher(channels), pictures(20, 64, 1), pictures(6, 64, 2)
    found = EmbeddingTargets(teacher, train, (side, side), EMBEDDING)(new)
    assert found.shape == (6, EMBEDDING, side, side)

    def lines(images):
        averaged = F.avg_pool2d(teacher.embed(to_tensor(images)), 16 // side)
        return averaged.permute(0, 2, 3, 1).reshape(-1, channels).double().numpy()

    kept = min(channels, EMBEDDING)
    pca = PCA(kept).fit(lines(train))
    deviation = pca.transform(lines(train)).std(0)
    expected = pca.transform(lines(new)) / deviation**0.5 / deviation.mean() ** 0.5
    components = found.permute(0, 2, 3, 1).reshape(-1, EMBEDDING).numpy()
    signs = np.sign((components[:, :kept] * expected).sum(0))
    np.testing.assert_allclose(components[:, :kept] * signs, expected, atol=2e-3)
    assert not components[:, kept:].any()


def test_a_teacher_coarser_than_the_student_is_enlarged():
    teacher = Teacher(8)
    found = EmbeddingTargets(teacher, pictures(5, 32, 1), (16, 16), EMBEDDING)(pictures(2, 32, 2))
    assert found.shape == (2, EMBEDDING, 16, 16) and torch.isfinite(found).all() and found[:, :8].std() > 0.1


def test_a_teacher_without_embeddings_is_refused():
    class Blind:
        kind = "blind"

        def embed(self, images):
            return None

    with pytest.raises(UserError, match="a blind has no patch embeddings"):
        EmbeddingTargets(Blind(), pictures(5, 32, 1), (16, 16), EMBEDDING)


@pytest.mark.parametrize(("channels", "dim"), [(6, 4), (6, 6), (6, 9)])
def test_principal_components_of_features_in_batches(channels, dim):
    """Of all positions at once, whatever the batches; at most as many as there are channels."""
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(0))
    features = torch.randn(9, channels, 5, 5, generator=torch.Generator().manual_seed(1))
    features = torch.einsum("nchw,cd->ndhw", features, mixing) + 20
    mean, matrix = principal_components(features.split(4), dim)
    lines = features.permute(0, 2, 3, 1).reshape(-1, channels).double()
    pca = PCA(min(dim, channels)).fit(lines.numpy())
    np.testing.assert_allclose(mean, pca.mean_, rtol=1e-6)
    assert matrix.shape == (channels, min(dim, channels)) and matrix.dtype == torch.float64
    found = ((lines - mean) @ matrix).numpy()
    deviation = np.sqrt(pca.explained_variance_ * (1 - 1 / len(lines)))
    np.testing.assert_allclose(found.std(0), np.sqrt(deviation / deviation.mean()), rtol=1e-5)
    expected = pca.transform(lines.numpy()) / deviation**0.5 / deviation.mean() ** 0.5
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)
    assert np.square(found).mean() == pytest.approx(1)


def test_features_without_variation_have_finite_components():
    mean, matrix = principal_components([torch.full((2, 3, 4, 4), 5.0)], 2)
    assert mean.tolist() == [5, 5, 5] and torch.isfinite(matrix).all()
