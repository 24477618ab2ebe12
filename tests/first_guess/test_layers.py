"""The person of a picture, cut into layers and drawn in other poses."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.first_guess.bones import Body
from animate_anyone.first_guess.cutting import capsules, cut
from animate_anyone.first_guess.layers import LAYERS, Figure
from animate_anyone.first_guess.skinning import diffuse, mesh
from animate_anyone.structures import NUM_KEYPOINTS, PoseSequence
from animate_anyone.synthetic.dataset import Clip, sample_clip
from standing import SIZE, STANDING

BACK = np.full((SIZE[1], SIZE[0], 3), 20, np.uint8)
SHIRT, TROUSERS, SKIN = (200, 30, 30), (30, 30, 200), (220, 180, 150)
Joints = dict[str, tuple[float, float]]


def body(joints: Joints, depth: dict[str, float] | None = None) -> Body:
    keypoints = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
    scores, far = np.zeros((1, NUM_KEYPOINTS), np.float32), np.zeros((1, NUM_KEYPOINTS), np.float32)
    for name, place in joints.items():
        keypoints[0, JOINT[name]], scores[0, JOINT[name]] = place, 1
    for name, value in (depth or {}).items():
        far[0, JOINT[name]] = value
    return Body.of(PoseSequence(keypoints, scores, SIZE, depth=None if depth is None else far))


def doll() -> tuple[np.ndarray, np.ndarray]:
    """A picture of somebody in plain colours on black, and the silhouette."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)

    def limb(start: str, end: str, radius: float, colour: tuple[int, int, int]) -> None:
        a, b = np.array(STANDING[start], float), np.array(STANDING[end], float)
        along = b - a
        t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / (along @ along), 0, 1)
        picture[np.hypot(x - a[0] - t * along[0], y - a[1] - t * along[1]) <= radius] = colour

    for side in ("right", "left"):
        limb(f"{side}_hip", f"{side}_knee", 5, TROUSERS)
        limb(f"{side}_knee", f"{side}_ankle", 4, TROUSERS)
    picture[34:67, 38:59] = SHIRT
    for side in ("right", "left"):
        limb(f"{side}_shoulder", f"{side}_elbow", 3.5, SHIRT)
        limb(f"{side}_elbow", f"{side}_wrist", 3, SKIN)
    picture[np.hypot(x - 48, y - 21) <= 9] = SKIN
    return picture, picture.any(-1)


def figure() -> Figure:
    picture, silhouette = doll()
    return cut(picture, body(STANDING), silhouette.astype(np.float32))


def at(picture: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    return picture[int(place[1]), int(place[0])].astype(int)


def near(found: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(found - colour).max() < 30)


def test_in_its_own_pose_it_is_itself_on_another_background() -> None:
    picture, silhouette = doll()
    drawn, _, unknown = figure().draw(body(STANDING), BACK)
    assert psnr_masked(drawn, picture, binary_erosion(silhouette)) > 35
    assert (drawn[~binary_dilation(silhouette, iterations=2)] == 20).all()
    assert unknown.shape == silhouette.shape and unknown.max() <= 1


def test_layers_have_their_bones() -> None:
    layers = {layer.name: layer for layer in figure().layers}
    assert layers.keys() == LAYERS.keys()
    for layer in layers.values():
        np.testing.assert_allclose(layer.weights.sum(1), 1)
        assert layer.weights.min() > -1e-9 and set(layer.bones) <= set(LAYERS[layer.name])


def test_an_arm_that_is_raised_leaves_nothing_behind_and_takes_its_colours_along() -> None:
    raised = STANDING | {"right_elbow": (26.0, 30.0), "right_wrist": (24.0, 16.0)}
    drawn = figure().draw(body(raised), BACK).picture
    assert near(at(drawn, (25, 22)), SKIN)
    assert near(at(drawn, (28, 54)), (20, 20, 20))
    assert near(at(drawn, STANDING["left_wrist"]), SKIN) and near(at(drawn, (48, 50)), SHIRT)


@pytest.mark.parametrize("shift", [(12, 0), (-9, 7)])
def test_a_person_that_moves(shift: tuple[int, int]) -> None:
    moved = {name: (x + shift[0], y + shift[1]) for name, (x, y) in STANDING.items()}
    drawn = figure().draw(body(moved), BACK).picture
    still = figure().draw(body(STANDING), BACK).picture
    inside = np.zeros(still.shape[:2], bool)
    inside[12:116, 12:84] = True
    assert psnr_masked(np.roll(still, shift[::-1], (0, 1)), drawn, inside) > 35


def test_an_arm_behind_the_trunk_is_hidden_by_it() -> None:
    across = STANDING | {"right_elbow": (44.0, 46.0), "right_wrist": (50.0, 56.0)}
    front = figure().draw(body(across, {"right_elbow": -0.2, "right_wrist": -0.2}), BACK).picture
    behind = figure().draw(body(across, {"right_elbow": 0.2, "right_wrist": 0.2}), BACK).picture
    assert near(at(front, (49, 54)), SKIN) and near(at(behind, (49, 54)), SHIRT)


def test_what_an_arm_hides_in_the_picture_is_marked_as_not_known() -> None:
    picture, _ = doll()
    picture[44:50, 40:56] = SKIN  # a forearm across the trunk
    across = STANDING | {"right_elbow": (39.0, 47.0), "right_wrist": (56.0, 47.0)}
    made = cut(picture, body(across), picture.any(-1).astype(np.float32))
    drawn, _, unknown = made.draw(body(STANDING), BACK)
    assert unknown[47, 48] > 0.5 and unknown[60, 48] < 0.1
    assert near(at(drawn, (48, 47)), SHIRT)


def test_somebody_turned_round_has_no_mirrored_face() -> None:
    picture, silhouette = doll()
    picture[8:16, 36:60][silhouette[8:16, 36:60]] = (60, 40, 20)  # hair
    picture[20:25, 44:47] = (255, 0, 255)  # an eye
    made = cut(picture, body(STANDING), silhouette.astype(np.float32))
    faceless = {name: (SIZE[0] - x, y) for name, (x, y) in STANDING.items() if "eye" not in name and name != "nose"}
    drawn, _, unknown = made.draw(body(faceless), BACK)
    head = drawn[14:30, 40:57].astype(int)
    assert not ((head[..., 1] < 60) & (head[..., 2] > 150)).any()
    assert unknown[22, 48] > 0.5


def test_poses_that_cannot_be_drawn_leave_the_background() -> None:
    far = {name: (x + 500.0, y) for name, (x, y) in STANDING.items()}
    assert np.array_equal(figure().draw(body(far), BACK).picture, BACK)
    empty = cut(doll()[0], body(STANDING), np.zeros((SIZE[1], SIZE[0]), np.float32))
    assert empty.layers == () and np.array_equal(empty.draw(body(STANDING), BACK).picture, BACK)


@pytest.mark.parametrize("gone", [("right_wrist",), ("right_ankle", "left_ankle", "left_knee"), ("nose", "right_eye")])
def test_joints_that_are_missing_in_either_pose(gone: tuple[str, ...]) -> None:
    some = {name: place for name, place in STANDING.items() if name not in gone}
    picture, silhouette = doll()
    for before, after in ((STANDING, some), (some, STANDING), (some, some)):
        made = cut(picture, body(before), silhouette.astype(np.float32))
        drawn = made.draw(body(after), BACK).picture
        assert near(at(drawn, (48, 50)), SHIRT)


@pytest.mark.parametrize("seed", range(12))
def test_any_pose_of_anything_can_be_cut_and_drawn(seed: int) -> None:
    """Joints anywhere, on each other, far outside, missing; masks that have nothing to do with them."""
    rng = np.random.default_rng(seed)

    def anything() -> Body:
        reach = float(rng.choice([0.01, 1.0, 30.0]))
        return body({name: tuple(rng.normal(48, 40 * reach, 2)) for name in STANDING if rng.random() < 0.7})

    picture = rng.integers(0, 256, BACK.shape, np.uint8)
    alpha = (rng.random(BACK.shape[:2]) < rng.choice([0.01, 0.5, 1.0])).astype(np.float32)
    made = cut(picture, anything(), alpha)
    for _ in range(3):
        drawn, cover, unknown = made.draw(anything(), BACK)
        assert drawn.shape == BACK.shape and drawn.dtype == np.uint8
        assert cover.min() >= 0 and cover.max() <= 1.001 and np.isfinite(unknown).all()


def test_without_a_mask_the_bones_thickness_stands_for_it() -> None:
    _, silhouette = doll()
    about = capsules(body(STANDING), SIZE) > 0.5
    assert (about & silhouette).sum() > 0.95 * silhouette.sum() and about.mean() < 0.4


def test_weights_are_the_nearest_bones() -> None:
    cover = np.zeros((64, 64), np.float32)
    cover[8:56, 24:40] = 1
    vertices, triangles = mesh(cover)
    bones = [(np.array([32.0, 8]), np.array([32.0, 30])), (np.array([32.0, 34]), np.array([32.0, 56]))]
    weights = diffuse(vertices, triangles, bones)
    assert weights[vertices[:, 1] < 16, 0].min() > 0.8 and weights[vertices[:, 1] > 48, 1].min() > 0.8


@pytest.fixture(scope="module")
def clip() -> Clip:
    return sample_clip(3, split="held_out", num_frames=12, size=(128, 128), motion="dance")


def test_a_studio_character_is_nearer_to_its_own_pictures_than_the_reference_is(clip: Clip) -> None:
    frames, masks = clip.frames.numpy(), clip.mask.numpy()
    made = cut(frames[0], Body.of(clip.pose, 0), masks[0].astype(np.float32))
    better = 0.0
    for number in (4, 8, 11):
        region = masks[number] | masks[0]
        drawn = made.draw(Body.of(clip.pose, number), np.where(masks[0][..., None], frames[number], frames[0])).picture
        better += psnr_masked(drawn, frames[number], region) - psnr_masked(frames[0], frames[number], region)
    assert better / 3 > 2
