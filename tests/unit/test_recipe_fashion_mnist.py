"""Recipe `fashion_mnist`: what its own batches and its schedule do."""

import numpy as np

from trainer.recipes.fashion_mnist import FashionMnistParams, recipe
from trainer.recipes.fashion_mnist_batches import MirroredImages


class Numbered:
    """Records whose image holds the record's number in its first column alone."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.zeros((len(numbers), 28, 28, 1), np.float32)
        images[:, :, 0, 0] = 1 + numbers[:, None]
        return images, numbers


def test_batches_are_shuffled_anew_and_half_of_them_mirrored() -> None:
    source = MirroredImages(Numbered(), 100, seed=4)
    epochs = []
    for _ in range(2):
        images, labels = (np.concatenate(part) for part in zip(source[0], source[1], strict=True))
        assert sorted(labels) == list(range(200))
        is_mirrored = images[:, 0, -1, 0] > 0
        assert np.array_equal(images.max((1, 2, 3)), 1 + labels)
        assert 70 < is_mirrored.sum() < 130
        epochs.append((labels.tolist(), is_mirrored.tolist()))
        source.on_epoch_end()
    assert epochs[0][0] != epochs[1][0]
    assert epochs[0][1] != epochs[1][1]


def test_the_rate_goes_down_to_nothing() -> None:
    model = recipe.model(FashionMnistParams(learning_rate=0.01, decay_steps=10))
    rates = []
    for step in (0, 5, 10):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    np.testing.assert_allclose(rates, [0.01, 0.005, 0.0], atol=1e-8)
