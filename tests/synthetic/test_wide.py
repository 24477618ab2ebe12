"""The wide domain: other pictures, the same truth; the plain domain is what it always was."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from animate_anyone.errors import InputError
from animate_anyone.synthetic.dataset import sample_clip, stream
from animate_anyone.synthetic.figure.body import sample_body
from animate_anyone.synthetic.figure.look import sample_look
from animate_anyone.synthetic.figure.paint import Paint
from animate_anyone.synthetic.figure.wardrobe import redress
from animate_anyone.synthetic.picture.lighting import cast_on_self, sample_lights, shine
from animate_anyone.synthetic.place.backdrop import WALLS, Camera, wall_points
from animate_anyone.synthetic.place.surroundings import (
    SURROUNDINGS,
    paint_empty,
    pink_noise,
    sample_surroundings,
)

SMALL = (64, 64)
# Mean colours of the four quarters of frame 5, drawn before there was another domain.
BEFORE = {
    3: [117.47, 66.95, 112.64, 116.21, 66.03, 112.56, 105.5, 66.75, 102.19, 113.16, 66.99, 107.51],
    11: [99.7, 116.19, 105.87, 113.13, 123.81, 117.31, 97.4, 114.54, 106.45, 111.62, 122.01, 114.97],
}


@pytest.mark.parametrize("seed", BEFORE)
def test_the_default_is_what_it_was(seed: int) -> None:
    clip = sample_clip(seed, split="held_out", size=SMALL, num_frames=6, frame_indices=[5])
    quarters = clip.frames[0].float().reshape(2, 32, 2, 32, 3).mean((1, 3)).flatten()
    assert np.allclose(quarters, BEFORE[seed], atol=0.1)
    assert clip.description["domain"] == "plain" and "cloth" not in clip.description


@pytest.mark.parametrize("seed", range(4))
def test_other_pictures_with_the_same_truth(seed: int) -> None:
    plain, wide = (
        sample_clip(seed, size=SMALL, num_frames=6, frame_indices=[1, 4], domain=domain) for domain in ("plain", "wide")
    )
    assert wide.frames.dtype == torch.uint8 and wide.frames.shape == plain.frames.shape
    assert (wide.frames.float() - plain.frames.float()).abs().mean() > 4
    assert float(wide.frames.float().std()) > 5
    for name in ("keypoints_3d", "visible", "depth", "mask", "labels"):
        assert torch.equal(getattr(plain, name), getattr(wide, name)), name
    assert np.array_equal(plain.pose.keypoints, wide.pose.keypoints)
    assert np.array_equal(plain.pose.scores, wide.pose.scores)
    assert wide.description["domain"] == "wide"
    json.dumps(wide.description)


def test_one_seed_is_one_wide_clip_and_its_frames_are_those_of_the_whole() -> None:
    for seed in (0, 2):
        whole, again = (sample_clip(seed, size=SMALL, num_frames=6, domain="wide").frames for _ in range(2))
        assert torch.equal(whole, again)
        some = sample_clip(seed, size=SMALL, num_frames=6, frame_indices=[4, 1], domain="wide").frames
        assert (whole[[4, 1]].float() - some.float()).abs().max() <= 2


def test_splits_and_seeds_differ() -> None:
    drawn = {
        sample_surroundings(stream(split, seed, "wide place")).colours.tobytes()
        for split in ("train", "held_out")
        for seed in range(20)
    }
    assert len(drawn) == 40


def test_a_bad_domain_is_named() -> None:
    with pytest.raises(InputError, match=r"^domain is 'wild'; it must be one of plain, wide$"):
        sample_clip(0, domain="wild")


def camera() -> Camera:
    """Eye height, 5 m away, level: x right, y down, z forward."""
    return Camera(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 1.2, 5.0]), 2.0, "full")


def test_every_place_is_drawn_and_shows_the_same_in_another_size() -> None:
    places = {}
    for seed in range(200):
        backdrop = sample_surroundings(np.random.default_rng(seed))
        places.setdefault(backdrop.kind, backdrop)
    assert set(places) == set(SURROUNDINGS)
    for kind, backdrop in places.items():
        small, large = (paint_empty(backdrop, camera(), (s, s), 2, torch.device("cpu")) for s in (32, 64))
        assert small.shape == (32, 32, 3) and 0 <= float(small.min()) <= float(large.max()) <= 1
        assert float(small.std()) > 0.001, kind
        halved = large.reshape(32, 2, 32, 2, 3).mean((1, 3))
        assert float((halved - small).abs().mean()) < 0.05, kind


def test_walls_stand_on_the_floor_behind_the_puppet() -> None:
    backdrop = sample_surroundings(np.random.default_rng(0))
    assert all(near > 0 for near, _ in WALLS.values()) and backdrop.wall > 0
    u, v = torch.tensor([0.1]), torch.tensor([0.0])
    across, up = wall_points(camera(), u, v, 3.0)  # 8 m from the camera
    assert float(across) == pytest.approx(0.8) and float(up) == pytest.approx(1.2)


def test_noise_has_the_spectrum_it_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    power = np.mean([np.abs(np.fft.fft2(pink_noise(rng, 64, 1.0) - 0.5)) ** 2 for _ in range(8)], 0)
    octaves = [power[0, low : 2 * low].mean() for low in (2, 4, 8, 16)]
    assert all(2.5 < a / b < 6.5 for a, b in pairwise(octaves))  # 4: amplitude 1 / f


def test_light_falls_from_its_side_and_gloss_adds_to_it() -> None:
    lights = sample_lights(np.random.default_rng(1))
    key = torch.tensor([lights.key])
    paint, sight, none = torch.full((1, 3), 0.5), torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1)
    towards, away = (shine(paint, n, sight, none, lights).sum() for n in (key, -key))
    assert towards > away
    half = torch.nn.functional.normalize(key - sight, dim=-1)
    assert shine(paint, half, sight, none + 0.5, lights).sum() > shine(paint, half, sight, none, lights).sum()


def test_what_stands_before_the_light_casts_a_shadow() -> None:
    lights = sample_lights(np.random.default_rng(1))
    wall = torch.full((1, 64, 64), 3.0)
    assert torch.equal(cast_on_self(wall, 2.0, lights), torch.ones_like(wall))
    empty = torch.full((1, 8, 8), torch.inf)
    assert torch.equal(cast_on_self(empty, 2.0, lights), torch.ones_like(empty))
    arm = wall.clone()
    arm[:, 28:36, 28:36] = 2.85
    shaded = cast_on_self(arm, 2.0, lights)
    assert 0 < float(shaded.min()) < 0.95
    row, column = divmod(int(shaded[0].argmin()), 64)
    aside = np.array([column - 31.5, row - 31.5])
    assert aside @ np.array(lights.key[:2]) < 0  # on the side that is turned away from the light


def test_another_dress_on_the_same_bricks() -> None:
    body = sample_body(stream("train", 0, "body"))
    look = sample_look(stream("train", 0, "look"), body)
    kinds, patterns = set(), set()
    for seed in range(60):
        other, kind = redress(np.random.default_rng(seed), look)
        assert other.parts is look.parts and other.face is look.face
        kinds.add(kind)
        patterns |= {m.pattern for m in other.materials}
        for material in other.materials:
            assert all(0 <= v <= 1 for c in (material.first, material.second, material.third) for v in c)
    assert len(kinds) == 4 and len(patterns) > 10
    rest = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        paint = Paint(redress(np.random.default_rng(seed), look)[0].materials, look.lattice, torch.device("cpu"))
        material = torch.arange(400) % len(look.materials)
        colours = paint.colours(material, rest, rest[:, 0] - 0.5, rest[:, 1])
        assert colours.shape == (400, 3) and 0 <= float(colours.min()) <= float(colours.max()) <= 1
        normal = torch.tensor([[0.0, 0.0, -1.0]]).expand(400, 3)
        worn, tilted, gloss = paint.drape(material, rest, colours, normal)
        assert torch.allclose(tilted.norm(dim=-1), torch.ones(400), atol=1e-5)
        assert not torch.equal(worn, colours) and not torch.equal(tilted, normal)
        assert 0 <= float(gloss.min()) <= float(gloss.max()) <= 1
