"""Sizes of results, and of what the networks make."""

import pytest

import tiny
from animate_anyone.conditions.sizes import of_area
from animate_anyone.errors import InputError
from animate_anyone.workflows.sizes import Sizes, choose_sizes, within


@pytest.mark.parametrize("shape", [(1080, 1920), (704, 1216), (1280, 720), (512, 512), (576, 768), (300, 1000)])
@pytest.mark.parametrize(("area", "step"), [((512, 768), 64), ((128, 128), 16)])
def test_a_shape_is_hardly_stretched_and_has_about_the_area(
    shape: tuple[int, int], area: tuple[int, int], step: int
) -> None:
    width, height = of_area(shape, area, step)
    assert width % step == height % step == 0
    assert abs((width / height) / (shape[0] / shape[1]) - 1) < 0.06
    assert 0.7 < width * height / (area[0] * area[1]) < 1.4


def test_large_pictures_are_scaled_down_and_small_ones_stay() -> None:
    assert within((1080, 1920), 512) == (288, 512)
    assert within((301, 200), 512) == (300, 200)
    assert within((3000, 20), 512) == (512, 4)


def test_models_with_a_first_guess_give_the_pictures_own_size() -> None:
    pipeline = tiny.pipeline(reference_latents=True, carried_reference=True, size=[64, 64])
    assert choose_sizes(pipeline, None, (1080, 1920)).video == (288, 512)
    assert choose_sizes(pipeline, (64, 64), (1080, 1920)) == Sizes((64, 64), (64, 64))
    networks = choose_sizes(pipeline, (256, 512), (1080, 1920)).networks
    assert networks[0] * networks[1] < 1.4 * 64 * 64
    with pytest.raises(InputError, match="at most 1024"):
        choose_sizes(pipeline, (2048, 512), (1080, 1920))


def test_others_work_at_the_size_of_the_result() -> None:
    pipeline = tiny.pipeline(size=[64, 128])
    found = choose_sizes(pipeline, None, (500, 1000))
    assert found.video == found.networks == (64, 128)
    assert choose_sizes(pipeline, (96, 64), (500, 1000)) == Sizes((96, 64), (96, 64))
    stretching = tiny.pipeline(size=[64, 128], stretch=True)
    assert choose_sizes(stretching, None, (1000, 500)).video == (64, 128)
