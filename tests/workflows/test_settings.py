"""The settings that all workflows share: declared and checked once."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from typing import Any

import pytest

from animate_anyone import ReplaceSettings, Settings
from animate_anyone.errors import InputError
from animate_anyone.workflows.settings import WorkflowSettings

BOTH = pytest.mark.parametrize("settings", [Settings, ReplaceSettings])
OWN = {
    Settings: {"model", "fps", "driving_kind", "align"},
    ReplaceSettings: {
        *("model", "masker", "objects", "tracker", "sam2_weights", "object_weights", "depth"),
        *("keep_background", "crop", "feather", "continuation"),
    },
}


@BOTH
def test_common_fields_are_declared_once(settings: type[WorkflowSettings]) -> None:
    common = {field.name for field in fields(WorkflowSettings)}
    classes = settings.__mro__[: settings.__mro__.index(WorkflowSettings)]
    declared = {name for kind in classes for name in kind.__annotations__ if name != "_"}
    assert declared == OWN[settings]
    assert declared & common == {"model"}
    assert {field.name for field in fields(settings)} == common | declared


@BOTH
def test_the_first_options_may_stand_without_names(settings: type[WorkflowSettings]) -> None:
    given = settings("folder", (64, 72), 3, 2.0, 5, slice(0, 4))
    assert (given.model, given.size, given.steps, given.guidance) == ("folder", (64, 72), 3, 2.0)
    assert (given.seed, given.frames) == (5, slice(0, 4))
    with pytest.raises(TypeError):
        settings("folder", (64, 72), 3, 2.0, 5, slice(0, 4), "mediapipe")  # type: ignore[misc]


def test_what_only_one_workflow_can_do() -> None:
    assert (ReplaceSettings().fps, ReplaceSettings().driving_kind) == (None, "auto")
    assert (Settings(fps=Fraction(8)).fps, Settings(driving_kind="video").driving_kind) == (8, "video")
    for option in ({"fps": Fraction(8)}, {"driving_kind": "video"}, {"align": False}):
        with pytest.raises(TypeError):
            ReplaceSettings(**option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        (
            Settings,
            {
                "size": ((65, 64), "size 65x64"),
                "steps": (0, "steps and window batch"),
                "fps": (Fraction(0), "fps 0"),
                "seed": (-1, "seed -1"),
                "pose_estimator": ("eyes", "no pose estimator 'eyes'; there are: mediapipe, rtmlib"),
                "driving_kind": ("film", "no kind of driver 'film'; there are: auto, video, skeleton"),
                "person": (100, "person 100: give 0 to 99"),
                "offload": ("half", "offload 'half'"),
            },
        ),
        (
            ReplaceSettings,
            {
                "size": ((65, 64), "size 65x64"),
                "window_batch": (0, "steps and window batch"),
                "seed": (-1, "seed -1"),
                "pose_estimator": ("eyes", "no pose estimator 'eyes'; there are: mediapipe, rtmlib"),
                "person": (100, "person 100: give 0 to 99"),
                "offload": ("half", "offload 'half'"),
                "masker": ("eyes", "no masker 'eyes'; there are: mediapipe, grabcut, sam2"),
                "tracker": ("eyes", "no tracker 'eyes'"),
                "feather": (257, "feather 257: give 0 to 256"),
            },
        ),
    ],
)
def test_of_several_faults_the_first_is_named(settings: Any, faults: dict[str, tuple[Any, str]]) -> None:
    """In this order, which is the same for both."""
    wrong = {name: value for name, (value, _) in faults.items()}
    for name, (_, message) in faults.items():
        with pytest.raises(InputError, match=message):
            settings(**wrong)
        del wrong[name]
    assert settings(**wrong) == settings()
