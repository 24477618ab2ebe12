"""Many jobs: the same videos as one by one, whatever goes wrong with some of them and however often it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forked
import replaced
import tiny
from animate_anyone.engines import local_pool
from animate_anyone.engines.engine import InProcess, Lost
from animate_anyone.errors import InputError
from animate_anyone.media import probe
from animate_anyone.progress import Item, Progress
from animate_anyone.sampling import kept_model
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows import animate as animate_workflow
from animate_anyone.workflows import batch as workflow
from animate_anyone.workflows import replace as replace_workflow
from animate_anyone.workflows.batch import FAILED, MADE, WAS_THERE, Summary, batch, plan
from animate_anyone.workflows.batch_jobs import MistakesError, read_jobs
from animate_anyone.workflows.batch_records import Records

Line = dict[str, Any]


@pytest.fixture
def here(dancers: Path, tmp_path: Path) -> Path:
    """A folder with things to animate, and some that are no good."""
    for file in dancers.iterdir():
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "text.mp4").write_text("not a video\n" * 40)
    return tmp_path


@pytest.fixture
def line(tiny_model: Path) -> Callable[..., Line]:
    """A good job."""

    def line(output: str, /, **changes: Any) -> Line:
        inputs = {"character": "me.png", "driving": "dance.npz", "character_pose": "me.npz", "output": output}
        settings = {"model": str(tiny_model), "size": "64x64", "steps": 1, "device": "cpu", "frames": "0:3"}
        return {**inputs, **settings, **changes}

    return line


def write(here: Path, *lines: Line | str) -> Path:
    """A jobs file."""
    texts = (one if isinstance(one, str) else json.dumps(one) for one in lines)
    (here / "jobs.jsonl").write_text("".join(f"{text}\n" for text in texts))
    return here / "jobs.jsonl"


def run(here: Path, *lines: Line | str, engine: Any = None, **options: Any) -> Summary:
    """The jobs, in this process unless an engine is given."""
    return batch(read_jobs(write(here, *lines), here / "out"), here / "out", engine or InProcess(), **options)


def results(summary: Summary) -> list[str]:
    return [one.result for one in summary.outcomes]


def test_videos_are_those_of_single_calls(
    here: Path, line: Callable[..., Line], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, though the model is loaded once for all jobs of one placement."""
    loaded = []
    load = kept_model.load_pipeline
    monkeypatch.setattr(kept_model, "load_pipeline", lambda *a, **k: loaded.append(k["placement"]) or load(*a, **k))
    changes: list[Line] = [{}, {"seed": 3}, {"vae-tiling": True}, {"size": "72x80", "guidance": 1.5}, {"steps": 2}]
    summary = run(here, *(line(f"{n}.mp4", **change) for n, change in enumerate(changes)))
    assert results(summary) == [MADE] * 5 and summary.status == 0
    assert [placement.vae_tiling for placement in loaded] == [False, True]
    known = PoseSequence.load(here / "me.npz")
    more: list[Line] = [{}, {"seed": 3}, {"vae_tiling": True}, {"size": (72, 80), "guidance": 1.5}, {"steps": 2}]
    for number, change in enumerate(more):
        basic = {"model": str(tiny_model), "size": (64, 64), "steps": 1, "device": "cpu", "frames": slice(0, 3)}
        settings = animate_workflow.Settings(**{**basic, **change})
        things = (here / "me.png", here / "dance.npz", here / "alone.mp4", settings)
        animate_workflow.animate(*things, character_pose=known)
        assert (here / "alone.mp4").read_bytes() == (here / "out" / f"{number}.mp4").read_bytes()


def test_replace_and_animate_in_one_file(
    here: Path, line: Callable[..., Line], dancers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.environment_pipeline(num_inference_steps=1).save_pretrained(here / "scenes")
    replaced.look_with(monkeypatch, dancers)
    job = {"verb": "replace", "character": "me.png", "video": "dance.mp4", "output": "in/scene.mp4"}
    job |= {"model": "scenes", "device": "cpu", "character-pose": "me.npz"}
    summary = run(here, job, line("alone.mp4"))
    assert results(summary) == [MADE, MADE], summary.lines()
    settings = replace_workflow.Settings(model=str(here / "scenes"), device="cpu")
    known = PoseSequence.load(here / "me.npz")
    replace_workflow.replace(here / "me.png", here / "dance.mp4", here / "one.mp4", settings, character_pose=known)
    assert (here / "one.mp4").read_bytes() == (here / "out/in/scene.mp4").read_bytes()


MISTAKES = [
    ("{", "is no JSON"),
    ('["me.png"]', "is no JSON object"),
    ('{"seed": 1, "seed": 2}', "is no JSON (seed stands twice)"),
    ('{"guidance": NaN}', "is no JSON (NaN is no number)"),
    ({"sed": 1}, "sed is not known; did you mean seed?"),
    ({"zzzz": 1}, "zzzz is not known; there are: verb, character, driving, output"),
    ({"video": "dance.mp4"}, "video is not known; animate has driving"),
    ({"verb": "dance"}, 'verb "dance" is not known; give animate or replace'),
    ({"verb": []}, "verb [] is not known"),
    ({"output": None}, "output is missing"),
    ({"character": 5}, "character 5: give the name of a file"),
    ({"character": "a\0b"}, "character"),
    ({"character": "\ud800"}, "character"),
    ({"output": "b.gif"}, "output b.gif: this kind of file cannot be written"),
    ({"output": "folder.mp4"}, "output folder.mp4: is a folder"),
    ({"output": "./a.mp4"}, "output a.mp4: line 2 has the same; give another"),
    ({"output": "../dance.mp4"}, "output ../dance.mp4: is what line 1 starts from"),
    ({"seed": "1"}, 'seed "1": give a whole number'),
    ({"seed": True}, "seed true: give a whole number"),
    ({"align": 1}, "align 1: give true or false"),
    ({"size": [64, 64]}, 'size [64, 64]: give "WIDTHxHEIGHT"'),
    ({"size": "60x64"}, "size 60x64: both must be multiples of 8"),
    ({"frames": "4"}, "--frames 4: give A:B"),
    ({"fps": "fast"}, "--fps fast: not a number"),
    ({"steps": 0}, "steps and window batch must be at least 1"),
    ({"seed": None}, "seed null: give a whole number"),
    ({"model": "no-such-model"}, "no-such-model: no model of that name"),
    ({"model": "puppet-environment"}, "puppet-environment: is a model of Animate Anyone 2"),
    ({"first-guess": True}, "--first-guess: "),
    ({"device": "cuda:1"}, "device cuda:1: batch shares the GPUs out itself"),
    ({"keep": "kept"}, "keep kept: line 2 has the same; give another"),
]


def test_mistakes(here: Path, line: Callable[..., Line]) -> None:
    """One in each line but the first two; all are told, by line."""
    (here / "out/folder.mp4").mkdir(parents=True)
    good = [line("0.mp4", driving="dance.mp4"), line("a.mp4", keep="kept")]
    wrong = [one if isinstance(one, str) else line(f"b{n}.mp4", **one) for n, (one, _) in enumerate(MISTAKES)]
    file = write(here, *good, *wrong)
    with pytest.raises(MistakesError) as caught:
        read_jobs(file, here / "out")
    told = [mistake.removeprefix(f"{file}, ") for mistake in caught.value.mistakes]
    assert len(told) == len(MISTAKES)
    for number, ((_, message), mistake) in enumerate(zip(MISTAKES, told, strict=True), 3):
        assert mistake.startswith(f"line {number}: {message}")
    assert not (here / "kept").exists()


def test_all_mistakes_are_told_together(here: Path, line: Callable[..., Line]) -> None:
    lines = (line("a.mp4", sed=1), "", line("a.mp4", model="none"), line("b.mp4"), "{", line("b.mp4"))
    with pytest.raises(MistakesError) as caught:
        read_jobs(write(here, *lines), here / "out")
    numbers = [mistake.removeprefix(f"{here / 'jobs.jsonl'}, ").split(":")[0] for mistake in caught.value.mistakes]
    assert numbers == ["line 1", "line 3", "line 5", "line 6"]
    assert not (here / "out").exists()


def test_networks_are_named_as_on_the_command_line(here: Path, tmp_path: Path) -> None:
    job: Line = {"verb": "replace", "character": "me.png", "video": "dance.mp4", "output": "a.mp4"}
    given = {"pose_estimator": "rtmlib", "rtmlib_pose": "dw.onnx", "depth": "weights", "output": "b.mp4"}
    plain, deep = read_jobs(write(here, job | {"depth": "joints"}, job | given), here / "out")
    assert (plain.settings.depth, deep.settings.depth) == (None, here / "weights")  # type: ignore[attr-defined]
    assert {here / "weights", here / "dw.onnx"} < set(deep.inputs()) and len(plain.inputs()) == 2


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe\x00"])
def test_files_without_jobs(here: Path, content: bytes | None) -> None:
    if content is not None:
        (here / "jobs.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"jobs\.jsonl: (cannot be read|holds no job|is no text)"):
        read_jobs(here / "jobs.jsonl", here / "out")


def test_what_is_done_is_not_done_again(here: Path, line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line(f"{number}.mp4", seed=number) for number in range(4)]
    lines[3]["output"] = str(here / "elsewhere.mp4")
    assert results(run(here, *lines)) == [MADE] * 4
    before = {file: file.stat().st_mtime_ns for file in [*(here / "out").iterdir(), here / "elsewhere.mp4"]}
    with monkeypatch.context() as patch:
        patch.setattr(kept_model, "load_pipeline", None)
        again = run(here, *reversed(lines))
    assert results(again) == [WAS_THERE] * 4
    assert [one.frames for one in again.outcomes] == [3] * 4
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert "is there" in plan(read_jobs(here / "jobs.jsonl", here / "out"), here / "out")[1]

    monkeypatch.chdir(here)
    jobs = read_jobs(Path("jobs.jsonl"), Path("out"))
    assert results(batch(jobs, Path("out"), InProcess())) == [WAS_THERE] * 4

    (here / "out/0.mp4").unlink()
    (here / "out/1.mp4").write_bytes(b"another")
    assert results(run(here, *lines)) == [MADE, MADE, WAS_THERE, WAS_THERE]
    assert results(run(here, lines[0], line("1.mp4", seed=9), *lines[2:])) == [WAS_THERE, MADE, WAS_THERE, WAS_THERE]
    shutil.copy(here / "me.png", here / "new.png")
    os.utime(here / "me.png", (1, 1))
    assert results(run(here, line("0.mp4"), line("new.mp4", character="new.png"))) == [MADE, MADE]
    monkeypatch.setattr("animate_anyone.__version__", "0.0.0", raising=False)
    assert results(run(here, line("0.mp4"))) == [MADE]


def test_a_model_that_changed_makes_its_videos_anew(here: Path, line: Callable[..., Line], tiny_model: Path) -> None:
    shutil.copytree(tiny_model, here / "model")
    job = line("a.mp4", model="model")
    assert results(run(here, job)) == [MADE]
    assert results(run(here, job)) == [WAS_THERE]
    os.utime(next((here / "model" / "vae").iterdir()), (2**31, 2**31))
    assert results(run(here, job)) == [MADE]


def test_what_goes_wrong_with_one_stops_no_other(
    here: Path, line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    animate = animate_workflow.animate

    def sometimes(character: Path, driving: Path, output: Path, *rest: Any, **options: Any) -> Any:
        if output.name == "ours.mp4":
            raise ZeroDivisionError("two\nlines")
        return animate(character, driving, output, *rest, **options)

    monkeypatch.setattr(animate_workflow, "animate", sometimes)
    good = line("good.mp4")
    broken = [line("text.mp4", driving="text.mp4"), line("gone.mp4", character="gone.png")]
    summary = run(here, *broken, good)
    assert results(summary) == [FAILED, FAILED, MADE] and summary.status == 2
    head, text, gone, made, counts = summary.lines()
    assert head.split() == ["job", "line", "result", "frames", "seconds", "reason"]
    assert text.startswith("text.mp4  1     failed") and "text.mp4: not a video" in text
    assert gone.startswith("gone.mp4  2     failed") and "gone.png: no such file" in gone
    assert made.split()[:4] == ["good.mp4", "3", "made", "3"]
    assert counts == "3 jobs: 1 made, 0 was there, 2 failed"
    assert sorted(file.name for file in (here / "out").iterdir()) == ["good.mp4", "good.mp4.json", "records"]

    summary = run(here, line("ours.mp4"), *broken, good)
    assert results(summary) == [FAILED, FAILED, FAILED, WAS_THERE] and summary.status == 1
    assert summary.outcomes[0].reason == "ZeroDivisionError: two lines"
    (record,) = (here / "out/records").glob("ours.mp4.*.json")
    assert "in sometimes" in json.loads(record.read_text())["trace"]
    monkeypatch.undo()
    assert results(run(here, line("ours.mp4"), good)) == [MADE, WAS_THERE]


def test_a_job_whose_process_dies_stops_no_other(here: Path, line: Callable[..., Line]) -> None:
    class Losing(InProcess):
        def each(self, function: Any, jobs: Iterable[Any], needs: Any = None) -> Iterator[Any]:
            for task in jobs:
                yield Lost(task) if task.job.name == "large.mp4" else function(task)

    summary = run(here, line("large.mp4"), line("small.mp4"), engine=Losing())
    assert results(summary) == [FAILED, MADE] and summary.status == 1
    assert summary.outcomes[0].reason == "the process that worked on it died, 2 times; it may want more memory"


def test_a_gpu_that_refuses_all_further_work_ends_its_process(
    here: Path, line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    from animate_anyone.engines.engine import SpoiltProcessError

    def broken(*inputs: Any, **options: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(animate_workflow, "animate", broken)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.synchronize", broken)
    with pytest.raises(SpoiltProcessError, match="illegal memory access"):
        run(here, line("a.mp4"))


def test_progress_counts_jobs(here: Path, line: Callable[..., Line]) -> None:
    class Counting(Progress):
        seen: list[tuple[int, Any]] = []  # noqa: RUF012

        def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
            count = 0
            for item in items:
                count += 1
                yield item
            self.seen.append((count, total))

    run(here, line("a.mp4"))
    run(here, line("a.mp4"), line("b.mp4"), progress=Counting())
    assert Counting.seen == [(2, 2)]


def test_a_plan_writes_nothing(here: Path, line: Callable[..., Line]) -> None:
    jobs = read_jobs(write(here, line("a.mp4"), line("b.mp4", driving="text.mp4")), here / "out")
    head, good, bad = plan(jobs, here / "out")
    assert head.split() == ["job", "line", "verb", "model", "to", "do", "reason"]
    assert good.startswith("a.mp4  1     animate") and good.endswith("make")
    assert "would fail" in bad and "text.mp4: not a video" in bad
    assert not (here / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_killed_twice(here: Path, line: Callable[..., Line]) -> None:
    """Twelve jobs, two of them broken: SIGKILL to all processes while one begins, then while its record is written."""
    jobs = [line(f"{number}.mp4", seed=number) for number in range(12)]
    jobs[2]["driving"], jobs[7]["character"] = "text.mp4", "gone.png"
    write(here, *jobs)

    def command(stop: str, at: int) -> Callable[[], None]:
        """``batch``, which says "here" and waits when ``stop`` is called for the ``at``-th time."""

        def work() -> None:
            local_pool._METHOD = "fork"
            place, name = {"begin": (workflow, "_run"), "record": (Records, "write")}.get(stop, (workflow, "_run"))
            called, count = getattr(place, name), iter(range(1, 99))

            def counted(*inputs: Any) -> Any:
                if next(count) == at:
                    os.write(1, b"here\n")
                    time.sleep(600)
                return called(*inputs)

            setattr(place, name, counted)
            forked.command_line("batch", "jobs.jsonl", "-o", "out", "--workers", "1")()

        return work

    def made() -> set[str]:
        return {file.name for file in (here / "out").glob("*.mp4")}

    for stop, at, there in (("begin", 5, {"0.mp4", "1.mp4", "3.mp4"}), ("record", 4, {"4.mp4", "5.mp4", "6.mp4"})):
        before = made()
        process = forked.Forked(command(stop, at), here)
        assert process.stdout.readline() == "here\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert made() - before == there
    process = forked.Forked(command("never", 99), here)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (2, "")
    lines = out.splitlines()
    assert lines[-1] == "12 jobs: 5 made, 5 was there, 2 failed"  # of 6.mp4 there was no record yet
    assert [text.split()[0] for text in lines if "failed  " in text] == ["2.mp4", "7.mp4"]
    assert made() == {f"{number}.mp4" for number in range(12)} - {"2.mp4", "7.mp4"}
    assert all(probe(file).num_frames == 3 for file in (here / "out").glob("*.mp4"))
    assert not [file for file in here.rglob("*") if file.name.endswith(".part")]
    assert results(run(here, *jobs)) == [FAILED if number in (2, 7) else WAS_THERE for number in range(12)]
