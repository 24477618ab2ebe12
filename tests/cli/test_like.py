"""``--like``: the settings of a result, read from its metadata or from the file beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import pytest
from command import Shell

from animate_anyone.media import read_comment


@pytest.fixture
def shell(dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell beside a character and a dance."""
    for file in dancers.iterdir():
        shutil.copy(file, tmp_path / file.name)
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def result(shell: Shell, tiny_model: Path) -> Path:
    """A result with settings of its own."""
    options = (
        f"--model {tiny_model} --device cpu --steps 2 --frames 1:5 --fps 24000/1001 --seed 5 --size 64x72 --no-align"
    )
    made = shell("animate", "me.png", "--driving", "dance.npz", *options.split(), "-o", "first.mp4")
    assert made.status == 0, made.err
    return Path("first.mp4")


def settings_of(path: Path) -> dict[str, object]:
    return json.loads(read_comment(path) or "{}")["settings"]


def again(shell: Shell, like: object, *options: object, output: str = "again.mp4") -> dict[str, object]:
    made = shell("animate", "me.png", "--driving", "dance.npz", "--like", like, *options, "-o", output)
    assert made.status == 0, made.err
    return settings_of(Path(output))


def test_a_result_has_its_settings_in_the_file_and_beside_it(result: Path) -> None:
    record = json.loads(read_comment(result) or "")
    assert (record["verb"], record["character"], record["video"]) == ("animate", "me.png", "dance.npz")
    settings = record["settings"]
    assert (settings["frames"], settings["fps"], settings["size"]) == ("1:5", "24000/1001", "64x72")
    assert (settings["seed"], settings["align"], settings["guidance"]) == (5, False, None)
    assert not settings.keys() & {"keep", "device", "offload"}  # where and how, not what
    beside = json.loads(Path("first.mp4.json").read_text())
    assert beside["settings"] == settings
    assert "first.mp4: 8 frames" in beside["lines"][-1]


def test_the_same_settings_make_the_same_file(shell: Shell, result: Path) -> None:
    assert again(shell, result) == settings_of(result)
    assert Path("again.mp4").read_bytes() == result.read_bytes()
    assert again(shell, "first.mp4.json", output="third.mp4") == settings_of(result)


def test_options_that_are_typed_win_though_they_are_the_defaults(shell: Shell, result: Path) -> None:
    found = again(shell, result, "--seed", 0, "--align", "--frames", "0:3")
    assert found == settings_of(result) | {"seed": 0, "align": True, "frames": "0:3"}


def test_a_converted_video_is_read_by_the_file_beside_it(shell: Shell, result: Path) -> None:
    with av.open(str(result)) as source, av.open("bare.mp4", "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    options = ["animate", "me.png", "--driving", "dance.npz", "--like", "bare.mp4", "-o", "x.mp4"]
    assert "bare.mp4: holds no settings" in shell.refused(*options)
    shutil.copy("first.mp4.json", "bare.mp4.json")
    assert again(shell, "bare.mp4") == settings_of(result)


@pytest.mark.parametrize("container", ["mkv", "mov"])
def test_other_containers_have_them_too(shell: Shell, result: Path, container: str) -> None:
    assert again(shell, result, output=f"again.{container}") == settings_of(result)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no settings"),
        ("[]", "holds no settings"),
        ("{" * 100_000, "holds no settings"),
        ('{"program": "animate-anyone", "settings": {}}', "its verb is null"),
        ('{"program": "animate-anyone", "verb": "replace", "settings": {}}', "was made by replace, not by animate"),
        (
            '{"program": "animate-anyone", "verb": "animate", "settings": {"swiftness": 1}}',
            "swiftness is not known here",
        ),
        ('{"program": "animate-anyone", "verb": "animate", "settings": {"seed": "x"}}', "give a whole number"),
        ('{"program": "animate-anyone", "verb": "animate", "settings": {"seed": -1}}', "seed -1: give a number"),
        ('{"program": "animate-anyone", "verb": "animate", "settings": {"model": "\\u0000"}}', "give text in quotes"),
        (" " * 1_100_000, "too large"),
    ],
)
def test_a_bad_file_is_one_line(shell: Shell, content: str, said: str) -> None:
    Path("bad.json").write_text(content)
    told = shell.refused("animate", "me.png", "--driving", "dance.npz", "--like", "bad.json", "-o", "x.mp4")
    assert told.startswith("bad.json: ")
    assert said in told


@pytest.mark.parametrize("name", ["not_there.mp4", "not_there.json", "me.png", "."])
def test_what_is_no_result_is_refused(shell: Shell, name: str) -> None:
    assert shell.refused("animate", "me.png", "--driving", "dance.npz", "--like", name, "-o", "x.mp4").startswith(name)


def test_a_file_of_somebody_else_beside_the_result_is_not_replaced(shell: Shell, tiny_model: Path) -> None:
    Path("out.mp4.json").write_text('{"mine": 1}')
    options = ["animate", "me.png", "--driving", "dance.npz", "--model", str(tiny_model), "-o", "out.mp4"]
    assert "out.mp4.json: is there and holds no settings of a result" in shell.refused(*options)
