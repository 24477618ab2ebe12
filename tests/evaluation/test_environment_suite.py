"""The suite of Animate Anyone 2: what it measures, and a run with a tiny model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tiny
from animate_anyone.conditions.environment import EMPTY, fill
from animate_anyone.errors import InputError
from animate_anyone.evaluation import environment_suite as suite
from animate_anyone.evaluation.environment_suite import MEASURES, MOST, SuiteScene, environment_table, measure
from animate_anyone.evaluation.image_metrics import psnr_masked


@pytest.fixture(scope="module")
def scene() -> SuiteScene:
    """Of few frames, with an object that is seen."""
    scenes = (SuiteScene.of(seed, (64, 64), "shape_agnostic", 3) for seed in range(20))
    return next(s for s in scenes if s.truth.object_mask.sum() > 60 and s.truth.mask.sum() > 600)


def test_the_truth_is_alike_everywhere(scene: SuiteScene) -> None:
    figures = measure(scene.frames, scene)
    assert figures.keys() == set(MEASURES)
    assert {value for value in figures.values() if value is not None} == {MOST}


def test_copy_source_keeps_the_environment_alone(scene: SuiteScene) -> None:
    figures = measure(scene.environment, scene)
    assert figures["environment"] == MOST
    assert figures["person"] is not None
    assert figures["person"] < 30


@pytest.mark.parametrize("name", ["person", "objects", "environment"])
def test_each_measure_looks_at_its_pixels(scene: SuiteScene, name: str) -> None:
    """An error of 51 of 255 on these pixels alone is 13.98 dB there."""
    spoilt, pixels = scene.frames.copy(), scene.where()[name]
    spoilt[pixels] = np.where(spoilt[pixels] < 128, spoilt[pixels] + 51, spoilt[pixels] - 51)
    figures = measure(spoilt, scene)
    assert figures[name] == pytest.approx(13.979, abs=1e-3)
    others = {"person": "objects", "objects": "person", "environment": "person"}
    assert figures[others[name]] == MOST


def test_the_edge_is_a_band_of_eight_pixels(scene: SuiteScene) -> None:
    region = np.zeros((3, 64, 64), bool)
    region[:, :, 32:] = True
    edge = replace(scene, region=region).where()["edge"]
    assert np.array_equal(np.flatnonzero(edge[0, 10]), np.arange(28, 36))


def test_objects_inside_are_those_that_the_environment_does_not_show(scene: SuiteScene) -> None:
    """What is spoilt outside the region does not count there, and inside it counts in both."""
    where = scene.where()
    inside, outside = where["objects_inside"], where["objects"] & ~scene.region
    assert inside.any() and outside.any()
    assert np.array_equal(inside | outside, where["objects"])
    assert (scene.environment[inside] == EMPTY).all()
    for pixels, alike in ((inside, False), (outside, True)):
        spoilt = scene.frames.copy()
        spoilt[pixels] ^= 64
        figures = measure(spoilt, scene)
        assert (figures["objects_inside"] == MOST) is alike
        assert figures["objects"] is not None and figures["objects"] < MOST


def test_an_exact_mask_hides_no_object(scene: SuiteScene) -> None:
    exact = replace(scene, region=scene.truth.mask.numpy())
    figures = measure(scene.frames, exact)
    assert figures["objects_inside"] is None
    assert figures["objects"] == MOST


def test_occluded_frames_are_apart(scene: SuiteScene) -> None:
    hidden = scene.truth.person_full_mask.clone()
    hidden[1] = True  # a person as large as the frame, most of it behind something
    hidden[[0, 2]] = scene.truth.mask[[0, 2]]
    where = replace(scene, truth=replace(scene.truth, person_full_mask=hidden)).where()
    assert where["person_occluded"].any(axis=(1, 2)).tolist() == [False, True, False]
    assert np.array_equal(where["person_occluded"][1], where["person"][1])


def test_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "FRAMES", 3)
    monkeypatch.setattr(SuiteScene.of.__func__, "__defaults__", (3, False))
    model, animator = tiny.environment_pipeline(), tiny.pipeline()
    for pipeline in (model, animator):
        pipeline.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"characters": 2, "steps": 1}
    report, sheet = suite.evaluate_environment(model, animator, **options)
    again, _ = suite.evaluate_environment(model, animator, **options)
    assert report["scenes"] == again["scenes"]
    assert [s["seed"] for s in report["scenes"]] == [0, 1]
    assert report["copy_source"]["environment"] == MOST
    assert report["model"]["person"] == pytest.approx(
        np.mean([s["model"]["person"] for s in report["scenes"]]), abs=1e-3
    )
    assert report["paste"]["person"] != report["copy_source"]["person"]
    assert sheet.shape[1] > 10 * 64
    lines = environment_table(report).splitlines()
    assert lines[0].split()[2:] == ["person", "(occluded)", "(front)", "environment", "objects", "(inside)", "edge"]
    assert [line.split()[0] for line in lines[1:]] == ["model", "copy_source", "paste"]
    assert f"{report['model']['person']:.2f}" in lines[1]


def test_what_is_pasted_covers_what_stands_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = (SuiteScene.of(seed, (64, 64), "shape_agnostic", 2) for seed in range(30))
    hidden = next(s for s in scenes if s.where()["person_occluded"].any())
    whole, seen = hidden.truth.person_full_mask.numpy(), hidden.truth.mask.numpy()
    in_front = whole & ~seen
    assert np.array_equal(
        hidden.where()["body_occluded"], whole & hidden.where()["person_occluded"].any((1, 2))[:, None, None]
    )
    animator = tiny.pipeline()
    monkeypatch.setattr(type(animator), "__call__", lambda self, *args, **options: [np.full_like(hidden.frames, 3)])
    pasted = suite.paste(animator, hidden)
    assert (pasted[whole] == 3).all()
    assert np.array_equal(pasted[~whole], hidden.environment[~whole])
    # Who makes the person as well, and leaves what stands in front, is told apart by that measure alone.
    behind = pasted.copy()
    behind[in_front] = hidden.frames[in_front]
    figures, better = measure(pasted, hidden), measure(behind, hidden)
    assert better["person_occluded"] == figures["person_occluded"]
    assert better["body_occluded"] > figures["body_occluded"]


def test_models_that_are_given_a_collage(scene: SuiteScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The character alone, without the plain colour behind it, in its region; the environment and the objects."""
    given: list[Any] = []
    model = tiny.environment_pipeline()
    model.register_to_config(carried_reference=True)

    def call(*args: Any, carried: Any, **options: Any) -> Any:
        given.append(carried)
        return [scene.frames]

    monkeypatch.setattr(type(model), "__call__", lambda self, *args, **options: call(*args, **options))
    suite.put_back(model, scene)
    carried = np.stack(list(given.pop()))
    assert not given
    objects, person = scene.truth.object_mask.numpy(), scene.truth.mask.numpy()
    assert np.array_equal(carried, np.stack(list(suite.first_guess(scene))))
    assert np.array_equal(carried[~scene.region], scene.frames[~scene.region])
    assert np.array_equal(carried[objects], scene.frames[objects])
    assert psnr_masked(carried[0], scene.frames[0], person[0]) > psnr_masked(
        fill(scene.environment, scene.region)[0], scene.frames[0], person[0]
    )
    behind = scene.character.picture[0, 0].astype(int)
    assert (np.abs(carried[person].astype(int) - behind).max(-1) <= 3).mean() < 0.05


def test_another_body_is_put_into_the_scene() -> None:
    """The truth has its character in the same place; the source, its mask and its objects are the scene's own."""
    own, other = (SuiteScene.of(3, (64, 64), "exact", 2, another_body=another) for another in (False, True))
    assert own.source is own.truth and other.source is not other.truth
    assert np.array_equal(own.frames, other.source.frames.numpy())
    assert np.array_equal(own.region, other.region) and np.array_equal(own.environment, other.environment)
    assert other.truth.description["height"] != own.truth.description["height"]
    assert np.abs(other.truth.pose.keypoints - own.truth.pose.keypoints).max() > 0.5
    assert not np.array_equal(own.character.picture, other.character.picture)
    away = ~(own.truth.mask | other.truth.mask | own.truth.object_mask | other.truth.object_mask).numpy()
    away &= ~(own.truth.shadow_mask | other.truth.shadow_mask).numpy()
    assert np.abs(own.frames[away].astype(int) - other.frames[away]).mean() < 1  # edges are mixed
    assert (other.truth.mask.numpy() & ~other.region).any()  # what the source's exact mask leaves no room for


def test_objects_can_be_left_out_of_the_first_guess(scene: SuiteScene, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = scene.truth.object_mask.numpy() & scene.region
    without = suite.first_guess(scene, with_objects=False)
    differs = np.abs(np.stack(list(without))[objects].astype(int) - scene.frames[objects]).max(-1)
    assert (differs > 8).mean() > 0.5
    model = tiny.environment_pipeline()
    model.register_to_config(carried_reference=True)
    monkeypatch.setattr(type(model), "__call__", lambda self, *args, **options: [scene.frames])
    # What the networks make of objects is then taken as it is; of the rest a share.
    made = suite.put_back(model, scene, guess_objects=False)
    assert np.array_equal(made[objects], scene.frames[objects])
    person = scene.truth.mask.numpy() & scene.region
    assert not np.array_equal(made[person], scene.frames[person])


def test_a_model_of_animate_anyone_is_refused() -> None:
    with pytest.raises(InputError, match="knows no environment; give one of Animate Anyone 2"):
        suite.evaluate_environment(tiny.pipeline())
