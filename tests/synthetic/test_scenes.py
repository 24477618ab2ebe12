"""Scenes: the parts are truly those of the composed picture."""

import functools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool2d

from animate_anyone.cli.synthesize import synthesize
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.structures import Subject
from animate_anyone.synthetic.dataset import sample_clip, stream
from animate_anyone.synthetic.picture.render import View, assemble, to_camera
from animate_anyone.synthetic.place.backdrop import sample_backdrop
from animate_anyone.synthetic.place.compositing import Layer, composite, paint_place, seen_from
from animate_anyone.synthetic.place.props import Prop, gather
from animate_anyone.synthetic.place.surroundings import paint_empty
from animate_anyone.synthetic.scene_setup import SceneSetup, place_scenery, sample_setup
from animate_anyone.synthetic.scenes import FILL, SceneClip, _scenery, character_picture, sample_scene_clip

SIDE = 72
SEEDS = range(14)
# Seeds, by what the camera does; the table hides legs, the child holds nothing and nothing is in front of it.
PAN, DRIFT, PAN_BEHIND_A_TABLE, STILL_CHILD = 1, 5, 13, 4


@functools.cache
def scene_of(seed: int) -> SceneClip:
    return sample_scene_clip(seed, size=(SIDE, SIDE), frame_indices=[1, 12, 22])


@functools.cache
def setup_of(seed: int) -> tuple[SceneSetup, list[Prop], dict[str, str]]:
    setup = sample_setup("train", seed, 24, Fraction(12), None, "plain")
    return setup, *place_scenery(stream("train", seed, "stage scenery"), setup, False)


def grown(mask: torch.Tensor) -> torch.Tensor:
    return max_pool2d(mask[:, None].float(), 3, 1, 1)[:, 0] > 0


def tensors(clip: SceneClip) -> list[torch.Tensor]:
    masks = [clip.object_mask, clip.occluders, clip.mask, clip.person_full_mask, clip.shadow_mask, clip.visible]
    return [clip.frames, clip.environment, clip.object_frames, *masks, clip.depth, clip.labels, clip.keypoints_3d]


def test_shapes_and_types() -> None:
    clip = sample_scene_clip(1, size=(48, 32), num_frames=3)
    for picture in (clip.frames, clip.environment, clip.object_frames):
        assert picture.shape == (3, 32, 48, 3) and picture.dtype == torch.uint8
    for mask in (clip.mask, clip.object_mask, clip.occluders, clip.person_full_mask, clip.shadow_mask):
        assert mask.shape == (3, 32, 48) and mask.dtype == torch.bool
    assert clip.person_mask is clip.mask and clip.depth.shape == (3, 32, 48) and len(clip.pose) == 3
    json.dumps(clip.description)


@pytest.mark.parametrize("seed", SEEDS)
def test_outside_person_objects_and_their_shadows_the_environment_is_the_frame(seed: int) -> None:
    clip = scene_of(seed)
    around = grown(grown(clip.person_full_mask | clip.object_mask))  # edges and thin fingers cover under half a pixel
    touched = around | clip.shadow_mask
    assert torch.equal(clip.frames[~touched], clip.environment[~touched])
    assert (~touched).float().mean() > 0.1
    apart = (clip.frames[clip.mask].float() - clip.environment[clip.mask].float()).abs().amax(-1)
    assert (apart > 8).float().mean() > 0.7  # the person is gone


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_tell_who_is_in_front(seed: int) -> None:
    clip = scene_of(seed)
    person, thing, front = clip.mask, clip.object_mask, clip.occluders
    assert not (person & thing).any() and not (person & front).any() and not (thing & front).any()
    assert not (person & ~clip.person_full_mask).any()
    assert torch.equal(clip.person_full_mask & ~person, clip.person_full_mask & (front | thing))
    assert torch.equal(clip.labels > 0, person) and torch.isfinite(clip.depth[person | thing | front]).all()
    deep = grown(~(front & ~clip.shadow_mask)) | grown(person | thing)  # scenery's inside shows the environment
    assert torch.equal(clip.frames[front & ~deep], clip.environment[front & ~deep])
    assert torch.equal(clip.object_frames[thing], clip.frames[thing]) and (clip.object_frames[~thing] == FILL).all()


def test_scenery_hides_people_and_their_joints() -> None:
    hidden_joints = 0
    for seed in SEEDS:
        clip = scene_of(seed)
        hidden = clip.person_full_mask & clip.occluders
        in_front = clip.description["in_front"] != "none"
        assert in_front or not hidden.any()
        deep = ~grown(~hidden)
        spots = clip.pose.keypoints[:, :18].astype(int)
        for frame, joint in np.argwhere(clip.pose.scores[:, :18] > 0):
            x, y = spots[frame, joint]
            if deep[frame, y, x]:
                hidden_joints += 1
                assert not clip.visible[frame, joint] and clip.pose.scores[frame, joint] < 1
    assert hidden_joints > 10


def test_a_held_object_stays_at_a_wrist() -> None:
    met = 0
    for seed in SEEDS:
        clip = scene_of(seed)
        if clip.description["object"] in ("none", "bounce", "chair", "stool"):
            continue
        for frame in range(3):
            y, x = (v.numpy() for v in clip.object_mask[frame].nonzero(as_tuple=True))
            wrists = clip.pose.keypoints[frame, [JOINT["left_wrist"], JOINT["right_wrist"]]]
            seen = clip.visible[frame, [JOINT["left_wrist"], JOINT["right_wrist"]]].all()
            if len(x) < 4 or not seen:
                continue
            away = np.hypot(x[:, None] + 0.5 - wrists[:, 0], y[:, None] + 0.5 - wrists[:, 1]).min()
            figure = np.ptp(clip.person_full_mask[frame].nonzero()[:, 0].numpy())
            met += 1
            assert away < 2 + 0.08 * figure, (seed, frame, away)
    assert met >= 6


def test_one_seed_is_one_scene_and_chosen_frames_are_those_of_the_whole() -> None:
    for seed, shot in ((PAN, "pan"), (DRIFT, "drift")):
        whole = sample_scene_clip(seed, size=(40, 40), num_frames=6)
        assert whole.description["shot"] == shot
        some = sample_scene_clip(seed, size=(40, 40), num_frames=6, frame_indices=[4, 1])
        for a, b in zip(tensors(whole), tensors(some), strict=True):
            assert torch.equal(a[[4, 1]], b)
        assert np.array_equal(whole.pose.scores[[4, 1]], some.pose.scores)


def test_splits_and_seeds_differ() -> None:
    shown = [
        sample_scene_clip(s, split=p, size=(24, 24), frame_indices=[0]) for s in (3, 4) for p in ("train", "held_out")
    ]
    for k, a in enumerate(shown):
        for b in shown[:k]:
            assert not torch.equal(a.frames, b.frames) and not torch.equal(a.environment, b.environment)


def test_another_size_shows_the_same_scene() -> None:
    for seed in (PAN, DRIFT, PAN_BEHIND_A_TABLE):
        small, large = (sample_scene_clip(seed, size=(s, s), frame_indices=[20]) for s in (48, 96))
        for a, b in ((small.frames, large.frames), (small.environment, large.environment)):
            halved = b.float().reshape(1, 48, 2, 48, 2, 3).mean((2, 4))
            assert (halved - a.float()).abs().mean() < 6
        assert small.description == large.description and torch.equal(small.keypoints_3d, large.keypoints_3d)


def test_objects_things_in_front_and_moving_cameras_have_their_shares() -> None:
    setups = [setup_of(seed) for seed in range(120)]
    objects = np.mean([setup.prop is not None for setup, _, _ in setups])
    moving = np.mean([setup.shot.movement != "still" for setup, _, _ in setups])
    assert 0.55 < objects < 0.85 and 0.2 < moving < 0.5
    front = [words["in_front"] != "none" for _, _, words in setups]
    for setup, props, words in setups:  # a thing in front is nearer than the person, one behind is not
        nearer = [bool(p.spots[:, 2].mean() > setup.target[2]) for p in props]
        count = int(words["in_front"] != "none")
        assert nearer == [True] * count + [False] * (len(props) - count)
    assert 0.35 < np.mean(front) < 0.65
    assert len({setup.prop.kind for setup, _, _ in setups if setup.prop}) >= 7


def test_still_scenes_without_an_object_have_the_pose_of_the_plain_clip() -> None:
    same = 0
    for seed in range(30):
        setup = setup_of(seed)[0]
        if setup.prop is None and setup.shot.movement == "still":
            scene, clip = (f(seed, size=(32, 32), frame_indices=[7]) for f in (sample_scene_clip, sample_clip))
            assert np.array_equal(scene.pose.keypoints, clip.pose.keypoints)
            assert torch.equal(scene.person_full_mask, clip.mask)
            same += 1
    assert same >= 2


def test_moving_cameras_move_the_environment_and_still_ones_do_not() -> None:
    moved = rested = 0
    for seed in SEEDS:
        clip, props = scene_of(seed), setup_of(seed)[1]
        apart = (clip.environment[0].float() - clip.environment[2].float()).abs().mean()
        if clip.description["shot"] != "still":
            moved += 1
            assert apart > 0.5 or clip.description["background"] in ("flat", "gradient")
        elif not any(prop.moves for prop in props):
            rested += 1
            assert apart == 0
    assert moved >= 3 and rested >= 3


def test_what_a_moved_frame_shows_to_the_middle_camera_is_what_the_moving_camera_sees() -> None:
    for seed in range(60):
        setup = setup_of(seed)[0]
        if setup.shot.movement == "drift":
            break
    assert setup.shot.movement == "drift"
    middle, centre, scale = setup.shot.middle, setup.target * np.array([1.0, 0.0, 1.0]), 1.3
    moved = seen_from(setup.placed, setup.shot.cameras, middle, centre, scale)
    for k in (0, 11, 23):
        camera = setup.shot.cameras[k]
        points = centre + scale * (setup.placed.origins[k] - centre)
        wanted = to_camera(points, camera.rotation, camera.position)
        assert np.allclose(scale * to_camera(moved.origins[k], middle.rotation, middle.position), wanted)
        assert np.allclose(middle.rotation @ moved.rotations[k], camera.rotation @ setup.placed.rotations[k])


def test_a_turned_view_of_the_large_painting_is_the_painting_of_the_turned_camera() -> None:
    setup = next(p for p, _, _ in map(setup_of, range(60)) if p.shot.movement == "pan")
    cpu, checked = torch.device("cpu"), 0
    for drawn in (sample_backdrop(np.random.default_rng(k)) for k in range(5)):
        backdrop = replace(drawn, kind="room")
        shown = paint_place(backdrop, setup.shot, [0, 23], (64, 48), 8, cpu)[1]
        still = paint_empty(backdrop, setup.shot.middle, (64, 48), 8, cpu)
        wanted = paint_empty(backdrop, setup.shot.cameras[23], (64, 48), 8, cpu)
        assert (shown - wanted).abs().mean() < 0.005
        checked += int((still - wanted).abs().mean() > 0.012)
    assert checked


def test_things_in_a_panorama_are_those_the_turned_camera_sees() -> None:
    setup, props, _ = next(p for p in map(setup_of, range(60)) if p[0].shot.movement == "pan" and len(p[1]) >= 2)
    standing = [prop for prop in props if not prop.moves]
    middle, style = setup.shot.middle, setup.style
    view = View(style.look, style.shading, middle.focal, (64, 64), 8, torch.device("cpu"))
    table, paints, placed = gather(standing)
    present = seen_from(placed.at([23]), [setup.shot.cameras[23]], middle)
    geometry = assemble(table, present, middle.rotation, middle.position, view.device)
    large, wanted = _scenery(view, setup.shot, [23], standing, geometry), view.props(geometry, table, paints)
    assert (large.cover - wanted.cover).abs().mean() < 0.005 < 0.1 * wanted.cover.mean()
    both = torch.isfinite(large.depth) & torch.isfinite(wanted.depth)
    assert (large.depth[both] - wanted.depth[both]).abs().quantile(0.9) < 0.01


def test_layers_are_laid_by_depth() -> None:
    def layer(colour: float, cover: float, depth: float) -> Layer:
        plane = torch.full((1, 1, 1), depth)
        return Layer(torch.full((1, 1, 1, 3), colour * cover), torch.full((1, 1, 1), cover), plane, plane)

    ground = torch.zeros(2, 1, 1, 3)
    half, whole = layer(1.0, 0.5, 1.0), layer(0.4, 1.0, 2.0)
    for order in ([half, whole], [whole, half]):
        assert torch.allclose(composite(ground, order), torch.full((2, 1, 1, 3), 0.7))


def test_scale_grows_the_person_and_leaves_the_place() -> None:
    whole, small = (sample_scene_clip(STILL_CHILD, size=(96, 96), frame_indices=[3], scale=s) for s in (1.0, 0.5))
    assert [whole.description[name] for name in ("framing", "object", "in_front")] == ["full", "none", "none"]
    assert torch.equal(whole.environment, small.environment)
    tall = [np.ptp(c.person_full_mask[0].nonzero()[:, 0].numpy()) for c in (whole, small)]
    assert 0.42 < tall[1] / tall[0] < 0.58
    ankles = [c.pose.keypoints[0, [JOINT["left_ankle"], JOINT["right_ankle"]]] for c in (whole, small)]
    assert np.abs(ankles[0] - ankles[1]).max() < 12  # about the floor under the person
    limbs = [c.keypoints_3d[0, 3] - c.keypoints_3d[0, 2] for c in (whole, small)]
    assert torch.allclose(limbs[0] * 0.5, limbs[1], atol=1e-4)


def test_wide_scenes_are_photographed_alike() -> None:
    for seed in (0, 1, 2):
        clip = sample_scene_clip(seed, size=(64, 64), domain="wide", frame_indices=[5])
        far = clip.mask | clip.object_mask | clip.shadow_mask
        for _ in range(4):
            far = grown(far)
        apart = (clip.frames[~far].float() - clip.environment[~far].float()).abs()
        assert apart.numel() > 300 and apart.mean() < 6
        assert clip.description["domain"] == "wide"


def test_a_character_picture_is_a_reference() -> None:
    first, again = (character_picture(3, size=(64, 64)) for _ in range(2))
    assert isinstance(first, Subject) and first.pose is not None and len(first.pose) == 1
    assert first.picture.shape == (64, 64, 3) and np.array_equal(first.picture, again.picture)
    assert (first.picture[0] == first.picture[0, 0]).all()
    spots = first.pose.keypoints[0, :14]
    assert (spots > 0).all() and (spots < 64).all()
    x, y = spots[1].astype(int)
    assert np.abs(first.picture[y, x].astype(int) - first.picture[0, 0]).max() > 10
    assert not np.array_equal(first.picture, character_picture(3, split="held_out", size=(64, 64)).picture)
    assert not np.array_equal(first.picture, character_picture(3, size=(64, 64), frame=23).picture)


def test_bricks_of_several_props_keep_their_paint_and_place() -> None:
    _, props, _ = next(p for p in map(setup_of, range(60)) if len(p[1]) >= 2)
    table, paints, placed = gather(props)
    assert len(table.joint) == sum(len(p.parts) for p in props) and len(paints) == 3 * len(props)
    last = props[-1]
    assert (table.joint[-len(last.parts) :] == len(props) - 1).all()
    assert paints[table.material[-1]] is last.coats[["first", "second", "third"].index(last.parts[-1].material)]
    assert np.array_equal(placed.origins[:, -1], last.spots)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"split": "test"}, "split is 'test'"),
        ({"domain": "odd"}, "domain is 'odd'"),
        ({"motion": "fly"}, "motion is 'fly'"),
        ({"frame_indices": [24]}, "frame_indices"),
        ({"size": (4, 4)}, "size"),
        ({"scale": 3.0}, "scale is 3.0; it must lie between 0.25 and 2.0"),
    ],
)
def test_mistakes_are_named(wrong: dict, named: str) -> None:
    with pytest.raises(InputError) as caught:
        sample_scene_clip(0, **wrong)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_of_a_frame_that_is_not_there() -> None:
    with pytest.raises(InputError, match="frame is 24; it must lie between 0 and 23"):
        character_picture(0, frame=24)


def test_synthesize_writes_the_parts(tmp_path: Path) -> None:
    synthesize(
        tmp_path, clips=1, seed=2, frames=2, size="32x32", motion=None, held_out=False, domain="plain", scenes=True
    )
    names = {path.name.removeprefix("train_000002") for path in tmp_path.iterdir()}
    assert names == {".mp4", "_environment.mp4", "_objects.mp4", ".png", "_character.png", ".npz", "_first.npz",
                     "_character.npz", "_masks.npz"}  # fmt: skip
    masks = np.load(tmp_path / "train_000002_masks.npz")
    assert set(masks) == {"masks", "objects", "occluders", "whole"} and masks["whole"].shape == (2, 32, 32)
