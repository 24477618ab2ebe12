"""The ray caster against slow arithmetic, its tiles against no tiles, and every look at a tiny size."""

import numpy as np
import pytest
import torch

from animate_anyone.synthetic.dataset import sample_clip, stream
from animate_anyone.synthetic.figure.body import place, sample_body
from animate_anyone.synthetic.figure.look import HATS, OUTFITS, sample_look
from animate_anyone.synthetic.motion.dance import MOTIONS
from animate_anyone.synthetic.motion.motion import perform
from animate_anyone.synthetic.picture.render import NOTHING, Geometry, assemble, find_pairs, meet
from animate_anyone.synthetic.place.backdrop import BACKGROUNDS, sample_camera


def one_brick(start: list[float], end: list[float], ra: float, rb: float, stretch: tuple[float, float, float],
              cut: tuple[float, float, float, float] = (0, 0, 0, 1)) -> Geometry:  # fmt: skip
    a, b = torch.tensor(start), torch.tensor(end)
    y = (b - a) / (b - a).norm()
    z = torch.linalg.cross(torch.tensor([1.0, 0.2, 0.1]), y)
    z = z / z.norm()
    axes = torch.stack([torch.linalg.cross(y, z), y, z], 1) * torch.tensor(stretch)
    return Geometry(
        torch.linalg.inv(axes)[None, None],
        a[None, None],
        b[None, None],
        torch.full((1, 1, 2), 1.0),
        (b - a).norm()[None],
        torch.tensor([[ra, rb]]),
        torch.tensor([cut], dtype=torch.float32),
    )


def covered(g: Geometry, points: np.ndarray) -> np.ndarray:
    """Whether points lie in the brick, by a search along its axis."""
    local = (points - g.centre[0, 0].double().numpy()) @ g.inward[0, 0].double().numpy().T
    share = np.linspace(0, 1, 801)[:, None]
    radius = g.radii[0, 0].item() * (1 - share) + g.radii[0, 1].item() * share
    height = g.length[0].item() * share
    aside = local[:, 0] ** 2 + local[:, 2] ** 2
    cut = g.cut[0].double().numpy()
    # Searched are those alone that could be inside: not cut off, nor farther from the axis or its ends than a radius.
    near = (local @ cut[:3] <= cut[3]) & (aside <= radius.max() ** 2)
    near &= (local[:, 1] >= -radius.max()) & (local[:, 1] <= height.max() + radius.max())
    near[near] = (aside[near] + (local[near, 1] - height) ** 2 <= radius**2).any(0)
    return near


@pytest.mark.parametrize("cut", [(0, 0, 0, 1), (0, 1, 0, 0.2), (0.3, -0.8, 0.5, 0.05)])
@pytest.mark.parametrize("stretch", [(1.0, 1.0, 1.0), (1.6, 1.0, 0.5)])
@pytest.mark.parametrize("end", [[0.3, 0.5, 4.2], [0.1, 0.1, 4.6], [0.05, 0.22, 4.0]])
def test_rays_meet_bricks_where_marching_does(
    end: list[float], stretch: tuple[float, float, float], cut: tuple
) -> None:
    brick = one_brick([0.0, 0.2, 4.0], end, 0.3, 0.12, stretch, cut)
    rng = np.random.default_rng(0)
    u, v = rng.uniform(-0.15, 0.25, 300), rng.uniform(-0.1, 0.25, 300)
    zero = torch.zeros(1, dtype=torch.long)
    found = meet(
        torch.tensor(u[None], dtype=torch.float32), torch.tensor(v[None], dtype=torch.float32), brick, zero, zero
    )[0].numpy()
    depths = np.arange(3.0, 5.6, 0.004)
    marched = np.full(300, NOTHING)
    for depth in depths[::-1]:
        inside = covered(brick, np.stack([u * depth, v * depth, np.full(300, depth)], -1))
        marched[inside] = depth
    hit = marched < NOTHING
    assert 20 < hit.sum() < 290
    both = hit & (found < NOTHING)
    assert (hit != (found < NOTHING)).mean() < 0.03  # grazing rays only
    assert np.quantile(np.abs(found[both] - marched[both]), 0.97) < 0.008


def geometry_of(seed: int) -> Geometry:
    body = sample_body(stream("train", seed, "body"))
    look = sample_look(stream("train", seed, "look"), body)
    placed = place(body, perform(MOTIONS["dance"][0](stream("train", seed, "m"), np.arange(2) / 2), body))
    camera = sample_camera(stream("train", seed, "scene"), body, 0.1, placed)
    geometry = assemble(look.parts, placed, camera.rotation, camera.position, torch.device("cpu"))
    geometry.__dict__["focal"] = camera.focal
    return geometry


@pytest.mark.parametrize("seed", range(12))
def test_tiles_lose_nothing(seed: int) -> None:
    geometry, side, tile = geometry_of(seed), 64, 8
    focal = geometry.__dict__["focal"] * side
    frame, place_, brick = find_pairs(geometry, slice(0, 2), 8, 8, tile, focal, (side / 2, side / 2))
    listed = {(f, p, b) for f, p, b in zip(frame.tolist(), place_.tolist(), brick.tolist(), strict=True)}
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for _ in range(2)), indexing="ij")
    u, v = (x.flatten() - side / 2) / focal, (y.flatten() - side / 2) / focal
    bricks = geometry.centre.shape[1]
    depth = meet(
        u.expand(bricks, -1),
        v.expand(bricks, -1),
        geometry,
        torch.zeros(bricks, dtype=torch.long),
        torch.arange(bricks),
    )
    hit_brick, ray = (depth < NOTHING).nonzero(as_tuple=True)
    needed = {
        (0, int(r) // side // tile * 8 + int(r) % side // tile, int(b)) for b, r in zip(hit_brick, ray, strict=True)
    }
    assert needed and needed <= listed
    assert len(listed) < 0.25 * 2 * 64 * bricks  # and they save work


def test_every_look_and_motion_renders_at_a_tiny_size() -> None:
    words: dict[str, set] = {key: set() for key in ("outfit", "hat", "background", "motion", "shading", "body", "hair")}
    names = list(MOTIONS)
    for seed in range(132):
        clip = sample_clip(seed, size=(64, 64), frame_indices=[3, 17], motion=names[seed % len(names)], supersample=1)
        assert np.isfinite(clip.pose.keypoints).all() and torch.isfinite(clip.keypoints_3d).all()
        assert torch.isfinite(clip.depth[clip.mask]).all()
        assert 0.015 < clip.mask.float().mean() < 0.9
        shown = clip.frames[clip.mask].float()
        assert shown.std() > 3  # not one flat blot
        for key, seen in words.items():
            seen.add(clip.description[key])
    assert words["outfit"] == set(OUTFITS) and words["hat"] == set(HATS) and words["background"] == set(BACKGROUNDS)
    assert words["motion"] == set(names) and words["shading"] == {"flat", "toon", "soft"} and len(words["body"]) == 6
    assert len(words["hair"]) >= 10


def test_the_background_stands_still() -> None:
    for seed in range(6):
        clip = sample_clip(seed, size=(64, 64), num_frames=12, motion="wave")
        never = ~torch.nn.functional.max_pool2d(clip.mask.any(0)[None, None].float(), 5, 1, 2)[0, 0].bool()
        assert never.any()
        spread = clip.frames.float().std(0).mean(-1)
        assert (spread[never] < 6).float().mean() > 0.9  # only shadows may move


def test_a_face_can_be_seen_in_a_whole_figure() -> None:
    """Eyes are darker or lighter than the skin around them at 128 pixels."""
    told = count = 0
    for seed in range(60):
        clip = sample_clip(seed, frame_indices=[2], motion="idle")
        if (
            clip.description["framing"] != "full"
            or not clip.visible[0, [14, 15]].all()
            or (clip.pose.scores[0, 60:] < 1).any()
        ):
            continue
        image = clip.frames[0].float().mean(-1)
        x, y = clip.pose.keypoints[0, [14, 15]].astype(int).T
        cheek_x, cheek_y = clip.pose.keypoints[0, [48, 54]].astype(int).T
        cheek = 0.5 * (image[cheek_y - 2, cheek_x - 1].mean() + image[cheek_y - 2, cheek_x + 1].mean())
        eyes = torch.stack([image[yy - 1 : yy + 2, xx - 1 : xx + 2].flatten() for xx, yy in zip(x, y, strict=True)])
        told += bool(((eyes - cheek).abs().amax(1) > 15).all())
        count += 1
    assert count >= 8 and told >= 0.85 * count
