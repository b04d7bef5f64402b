"""Images as pixels and as spectra: range, size, repeatability, and the fall of amplitude with frequency."""

import numpy as np
import pytest
import tensorflow as tf

from tlkeras.ideal.parameterisation import Fourier, Pixels, spectrum_scale


@pytest.mark.parametrize("held", [Pixels(), Fourier()], ids=["pixels", "fourier"])
@pytest.mark.parametrize("size_px", [31, 32])
def test_noise_images_are_repeatable_and_one_for_each_seed(held, size_px):
    image = held.image(held.start([5, 6, 7], size_px)).numpy()
    assert image.shape == (3, size_px, size_px, 3)
    assert image.min() >= 0
    assert image.max() <= 255
    np.testing.assert_allclose(held.image(held.start([6], size_px)), image[1:2], atol=1e-3)
    assert np.abs(image[0] - image[1]).max() > 0.1


def test_pixels_stay_in_range():
    moved = Pixels().allowed(tf.constant([[-3.0, 12.0, 300.0]]))
    np.testing.assert_array_equal(moved, [[0, 12, 255]])


def test_fourier_never_reaches_the_ends():
    held = Fourier(low_255=8.0, high_255=247.0)
    image = held.image(1e3 * held.start([0], 32)).numpy()
    assert 8 <= image.min() < 30
    assert 225 < image.max() <= 247


def test_white_spectra_become_images_of_size_one_with_falling_amplitudes():
    random = np.random.default_rng(0)
    for decay, ratio in ((1.0, 4.0), (2.0, 16.0)):
        weights = spectrum_scale(64, decay)
        # Four times the frequency, a quarter of the amplitude.
        assert weights[0, 4] / weights[0, 16] == pytest.approx(ratio)
        spectrum = (random.normal(size=(64, 33)) + 1j * random.normal(size=(64, 33))) * weights
        assert np.fft.irfft2(spectrum, (64, 64)).std() == pytest.approx(1, rel=0.5)


def test_a_spectrum_becomes_the_image_that_numpy_makes_of_it():
    held = Fourier(decay=1.5, contrast=2.0)
    numbers = held.start([3, 4], 16) * 50
    weighted = numbers.numpy() * spectrum_scale(16, 1.5)
    axes = np.fft.irfft2(weighted[:, 0] + 1j * weighted[:, 1], (16, 16))
    red = axes[:, 0] * 0.26 + axes[:, 1] * 0.09 + axes[:, 2] * 0.02
    green = axes[:, 0] * 0.27 - axes[:, 2] * 0.05
    share = (held.image(numbers).numpy() - held.low_255) / (held.high_255 - held.low_255)
    colours = np.log(share / (1 - share))
    unit = 2.0 / np.linalg.norm([0.26, 0.27, 0.27])
    np.testing.assert_allclose(colours[..., 0], unit * red, atol=2e-4)
    np.testing.assert_allclose(colours[..., 1], unit * green, atol=2e-4)


def test_colours_vary_most_in_light_as_photos_do():
    held = Fourier(noise=0.3)
    image = held.image(held.start(range(8), 32)).numpy()
    light = image.mean(axis=-1).std()
    colour = (image - image.mean(axis=-1, keepdims=True)).std()
    assert 1.5 < light / colour < 10


def test_the_gradient_reaches_every_frequency():
    held = Fourier()
    numbers = held.start([0], 16)
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        value = tf.reduce_sum(held.image(numbers) * np.random.default_rng(1).normal(size=(1, 16, 16, 3)))
    gradient = tape.gradient(value, numbers).numpy()
    assert np.isfinite(gradient).all()
    # The imaginary parts of the lowest frequency and of the three Nyquist ones mean nothing to a real image.
    assert (gradient[0, 0] != 0).all()
