"""The only training loop: steps of the optimiser, the log, checkpoints. What is trained on what, a stage says."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, parse_flag_from_env
from diffusers.training_utils import EMAModel
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.number_types import has_bfloat16_units
from animate_anyone.progress import SILENT, Progress
from animate_anyone.training.bad_batch import BadStep
from animate_anyone.training.batch import Batch
from animate_anyone.training.checkpoint import load_last, save_checkpoint, whole_folder
from animate_anyone.training.config import Recipe
from animate_anyone.training.disk_space import Written
from animate_anyone.training.distributed import is_sharded, share_out
from animate_anyone.training.held_signals import HeldSignals
from animate_anyone.training.monitor import RunMonitor
from animate_anyone.training.objective import step_generator
from animate_anyone.training.optimizer import SHARE, build_optimizer, learning_rate
from animate_anyone.training.prefetching import Batches, choose_makers
from animate_anyone.training.run_report import write_report
from animate_anyone.training.stage import Stage
from animate_anyone.training.time_limit import TimeLimit
from animate_anyone.training.timestep_bands import band_means

if TYPE_CHECKING:
    from animate_anyone.training.validation import Validation

_LOG = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    stage: Stage,
    *,
    resume: bool = False,
    progress: Progress = SILENT,
    after_checkpoint: Callable[[int], None] | None = None,
    limit: TimeLimit | None = None,
) -> Path:
    """Run a recipe to its end, or to that of its time, and return the folder of the resulting model.

    The same recipe gives the same weights, whether it ran through or was stopped and resumed: batches
    and noise depend on (seed, step) alone, and how a step is cut into micro-batches and processes changes no
    more than rounding does. With a time limit the learning rate follows the clock, see :func:`learning_rate`.
    A signal that asks the program to end has its effect when the step is done and a checkpoint is saved.

    Args:
        resume: go on from the last checkpoint in ``recipe.output`` where there is one.
        after_checkpoint: called with the step after each checkpoint.
        limit: stop in time; it tells afterwards how far this went. ``report.md`` beside the model says more.

    Raises:
        InputError: there is no room for the results; or a loss or a gradient is not finite: then the batch is kept
            in ``not_finite/``, and a checkpoint holds what was before that step.
    """
    run = _Run(recipe, stage, limit, after_checkpoint)
    run.begin(resume)
    with run.held, run.batches() as batches:
        steps = range(run.done, recipe.steps)
        for step in progress.track(steps, len(steps), recipe.stage):
            if limit is not None and not run.agree(limit.is_room_for_a_step()):
                break
            try:
                run.step(step, batches)
            except Exception:  # a signal to all processes ends those too that make batches
                run.save_alone()
                raise
            if run.done > step:
                run.after_step()
            if run.stop:
                run.save_and_stop()
                break
    if not run.stop:
        run.end()
        run.accelerator.wait_for_everyone()  # what the first process has written, the others may read from here on
    run.monitor.close()
    return run.output / "model"


def number_type(
    precision: Literal["bfloat16", "float32", "auto"], device: torch.device
) -> Literal["bfloat16", "float32"]:
    """What a recipe's ``precision`` means on a device."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16_units(device) else "float32"


class _Run:
    """A run of a recipe: what its steps share."""

    def __init__(
        self, recipe: Recipe, stage: Stage, limit: TimeLimit | None, after_checkpoint: Callable[[int], None] | None
    ) -> None:
        AcceleratorState._reset_state()  # which otherwise holds every run of a process to the precision of the first
        # Several processes without a GPU find each other only where the CPU is asked for.
        cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        precision = number_type(recipe.precision, PartialState(cpu=cpu).device)
        self.accelerator = Accelerator(mixed_precision="bf16" if precision == "bfloat16" else "no", cpu=cpu)
        self.asked, self.recipe = recipe, replace(recipe, precision=precision)
        self.stage, self.limit, self.output = stage, limit, Path(recipe.output)
        self.written = Written.of(recipe, stage)
        self.shared = share_out(self.accelerator, stage, recipe.sharding)
        self.after_checkpoint = after_checkpoint
        trained = {name: p for name, p in stage.named_parameters() if p.requires_grad}
        self.trainable = list(trained.values())
        self.ema = EMAModel(self.trainable, decay=recipe.ema, use_ema_warmup=True, power=0.75) if recipe.ema else None
        self.optimizer: Any = build_optimizer(recipe.optimizer, trained)
        self.clock = time.perf_counter if limit is None else limit.clock
        self.first = self.done = self.saved = 0
        self.parts = recipe.accumulate * self.accelerator.num_processes
        self.norm = torch.zeros(())
        self.used: float | None = None
        self.held, self.stop = HeldSignals(), 0  # the signal by which all processes of the run stop
        self.updating = False  # between two whole states of the weights
        self.owed = False  # a checkpoint for which there was no room
        self.figures: dict[str, list[Tensor]] = {}  # since the last line of the log
        self.since = 0.0

    def begin(self, resume: bool) -> None:
        """Put a checkpoint back, and everything where it computes."""
        if resume:
            processes = self.accelerator.num_processes
            self.done = load_last(self.output, self.stage, self.optimizer, self.ema, self.asked, processes)
            self._check_begun_alike()
        if self.done < self.recipe.steps:
            self.written.check(self.recipe, self.done)
        self.first = self.saved = self.done
        self.optimizer = self.shared.prepare(self.optimizer)
        if self.ema is not None:
            self.ema.to(self.accelerator.device)
        if self.accelerator.is_main_process:
            self.output.mkdir(parents=True, exist_ok=True)
        self.monitor = RunMonitor(self.recipe, self.accelerator.device, self.done)
        self.validation = self._build_validation()
        if self.limit is not None:
            self.limit.begin_training(self.done)
            self.used = 0.0
        self.since = self.clock()

    def _check_begun_alike(self) -> None:
        """See that all processes go on from the same step: others would wait for each other without end.

        Raises:
            InputError: they do not, as where they do not share a disk.
        """
        steps = self.accelerator.gather(torch.tensor([self.done], device=self.accelerator.device)).tolist()
        if len(set(steps)) > 1:
            told = ", ".join(f"process {number} from step {step}" for number, step in enumerate(steps))
            raise InputError(f"{self.output}: {told}; give an output that all processes of the run see alike")

    def batches(self) -> Batches:
        """This process's micro-batches from here on."""
        accelerator, recipe = self.accelerator, self.recipe
        order = (
            (step, micro * accelerator.num_processes + accelerator.process_index, self.parts)
            for step in range(self.done, recipe.steps)
            for micro in range(recipe.accumulate)
        )
        device = accelerator.device
        makers = choose_makers(device, self.stage.renderers, recipe.batch // recipe.accumulate)
        return Batches(self.shared.source, order, makers, pinned=device.type == "cuda")

    def step(self, step: int, batches: Batches) -> None:
        """One step of the optimiser; or none, where a signal comes before its last micro-batch."""
        recipe, accelerator = self.recipe, self.accelerator
        made: dict[int, Tensor] = {}  # losses by part
        with self._measured("steps"):
            for micro, batch in enumerate(self._weighed(batches)):
                part = micro * accelerator.num_processes + accelerator.process_index
                generator = step_generator(recipe.seed, step, part, self.parts)
                last = micro + 1 == recipe.accumulate
                with self.shared.passes(last):
                    losses = self.shared.model(batch.to(accelerator.device), generator)
                    accelerator.backward(losses["loss"] / recipe.accumulate)
                made[part] = losses["loss"].detach()
                for name, value in losses.items():
                    self.figures.setdefault(name, []).append(value.detach())
                if self.held.asked and not last and accelerator.num_processes == 1:  # several agree after a step
                    self.stop = self.held.asked
                    return
            for group in self.optimizer.param_groups:
                group["lr"] = group.get(SHARE, 1.0) * learning_rate(recipe, step, self.first, self.used)
            self.norm = self.shared.clip(self.trainable, recipe.optimizer.max_grad_norm)
            self._check_finite(step, made)
            self.updating = True
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.ema is not None:
                self.ema.step(self.trainable)
            self.stage.after_step()
            if self.limit is not None:
                if accelerator.device.type != "cpu":
                    torch.accelerator.synchronize(accelerator.device)
                self.limit.slowest_batch = batches.slowest
        self.done, self.updating = step + 1, False

    def _check_finite(self, step: int, made: dict[int, Tensor]) -> None:
        """See that losses and gradient of a step are finite, on all processes, and whether one is asked to stop.

        Raises:
            InputError: they are not. The batches are saved, and what was before the step.
        """
        bad = not torch.isfinite(torch.stack([*made.values()])).all()
        found = [float(self.held.asked or 0), float(bad), float(not torch.isfinite(self.norm))]
        if self.accelerator.num_processes > 1:
            largest = torch.tensor(found, device=self.accelerator.device)
            torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
            found = largest.tolist()
        self.stop = int(found[0])
        if not any(found[1:]):
            return
        losses = {part: float(loss) for part, loss in made.items()}
        bad_step = BadStep(step, losses, self.parts, float(self.norm), elsewhere=not bad and found[1] > 0)
        file = bad_step.save(self.stage, self.recipe)
        if self.done > self.saved:
            self._save()
        raise InputError(bad_step.told(file, self.recipe))

    def save_and_stop(self) -> None:
        """Save a checkpoint, on all processes, before the signal that one of them got has its effect on each."""
        self.held.asked = self.stop
        try:
            if self.done > self.saved:
                self._save(model=False)
        except InputError as error:  # the signal's effect would hide it
            _LOG.warning(error)
        self.accelerator.wait_for_everyone()

    def save_alone(self) -> None:
        """Where a step fails because of a signal, save a checkpoint of the steps before it."""
        whole = not self.updating and not is_sharded(self.stage)
        if self.held.asked and self.accelerator.is_main_process and whole and self.done > self.saved:
            state = self.stage, self.optimizer, self.ema, self.recipe
            save_checkpoint(self.output, self.done, *state, self.accelerator.num_processes)

    def _weighed(self, batches: Batches) -> Iterator[Batch]:
        """The micro-batches of a step, each with the step's mean weight where the stage has weights."""
        accumulate = self.recipe.accumulate
        if not self.stage.weighted:
            yield from (self._next(batches) for _ in range(accumulate))
            return
        held = [self._next(batches) for _ in range(accumulate)]
        mean = torch.stack([self.stage.mean_weight(batch) for batch in held]).mean()
        mean = self.accelerator.reduce(mean.to(self.accelerator.device), "mean")
        while held:
            yield replace(held.pop(0), mean_weight=mean)

    def _next(self, batches: Batches) -> Batch:
        with self._measured("waiting"):
            return next(batches)

    def after_step(self) -> None:
        """Log and save where it is time to."""
        recipe, limit = self.recipe, self.limit
        at_end = self.done == recipe.steps
        log = self.done % recipe.log_every == 0 or at_end
        save = self.done % recipe.checkpoint_every == 0 or at_end
        if limit is not None:
            limit.done, limit.at_end = self.done, at_end
            # All processes go by the first one's clock.
            timed = self._of_first([limit.is_log_due(), limit.is_save_due(), limit.used])
            log, save, self.used = log or timed[0] > 0, save or timed[1] > 0, timed[2]
        if log:
            self._log()
        if save or (log and self.owed):
            self._save_if_room(at_end)
        every = recipe.monitor.validate_every
        if self.validation is not None and every is not None and (self.done % every == 0 or at_end):
            self._validate(self.validation)

    def end(self) -> None:
        """Save what is not saved yet, and close the report."""
        if self.first == self.recipe.steps:
            self._save_model()  # the run before may have been cut between checkpoint and model
        if self.limit is None:
            return
        self.limit.done, self.limit.at_end = self.done, self.done == self.recipe.steps
        if self.done > self.saved:
            if self.figures:
                self._log()
            self._save()
        elif self.done > self.first and self.accelerator.is_main_process:
            write_report(self.output, self.recipe, self.limit, self.accelerator.device)

    def agree(self, answer: bool) -> bool:
        """The first process's answer, on all of them."""
        return self._of_first([answer])[0] > 0

    def _of_first(self, values: list[float]) -> list[float]:
        """The first process's values, on all of them."""
        if self.accelerator.num_processes == 1:
            return values
        sent: Tensor = broadcast(torch.tensor(values, dtype=torch.float32, device=self.accelerator.device), 0)
        return sent.tolist()

    def _log(self) -> None:
        recipe, accelerator = self.recipe, self.accelerator
        seconds = self.clock() - self.since
        counted = len(self.figures["loss"])
        means = [sum(torch.stack(values).float().tolist()) / counted for values in self.figures.values()]
        if accelerator.num_processes > 1:
            means = accelerator.reduce(torch.tensor(means, device=accelerator.device), "mean").tolist()
        figures = band_means(dict(zip(self.figures, means, strict=True)))
        line: dict[str, Any] = {name: round(mean, 6) for name, mean in figures.items()}
        line |= {"step": self.done, "lr": self.optimizer.param_groups[0]["lr"], "grad_norm": round(float(self.norm), 4)}
        clips = counted * recipe.batch / recipe.accumulate * accelerator.num_processes
        line["clips_per_second"] = round(clips / max(seconds, 1e-9), 3)
        line |= self.monitor.measures(counted // recipe.accumulate, seconds)
        if self.limit is not None:
            line["seconds"] = round(self.limit.elapsed, 1)
        if accelerator.is_main_process:
            with (self.output / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.monitor.write(line)
        self.figures, self.since = {}, self.clock()

    def _save_if_room(self, at_end: bool) -> None:
        """Save; where there is no room, say so and go on, to try again later. At the end it is tried all the same."""
        shortage = None if at_end else self.written.shortage(self.output)
        self.owed = self.agree(shortage is not None)
        if not self.owed:
            self._save()
        elif self.accelerator.is_main_process:
            _LOG.warning(f"{shortage}; make room: training goes on, and saves when there is room")

    def _save(self, model: bool = True) -> None:
        began = self.clock()
        with self._measured("saving"):
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process or is_sharded(self.stage):
                state = self.stage, self.optimizer, self.ema, self.recipe
                save_checkpoint(self.output, self.done, *state, self.accelerator.num_processes)
            if model:
                self._save_model()
        self.saved = self.done
        if self.accelerator.is_main_process:
            if self.limit is not None:
                write_report(self.output, self.recipe, self.limit, self.accelerator.device)
            if self.after_checkpoint is not None:
                self.after_checkpoint(self.done)
        self.since += self.clock() - began  # steps are timed, not saving

    def _save_model(self) -> None:
        with self.shared.whole(self.ema, self.trainable) as stage:
            if stage is not None:
                with whole_folder(self.output / "model") as folder:
                    stage.save(folder)
                    write_history(folder, self.recipe, self.done)

    def _build_validation(self) -> Validation | None:
        if self.recipe.monitor.validate_every is None:
            return None
        from animate_anyone.training.validation import Validation, why_none  # where packages for videos are needed

        reason = why_none(self.recipe, self.stage, self.limit is not None)
        if reason is None:
            device, autocast = self.accelerator.device, self.accelerator.autocast
            return Validation(self.recipe, device, self.monitor, autocast, stopped=lambda: bool(self.held.asked))
        if self.accelerator.is_main_process:
            _LOG.warning(reason)
        return None

    def _validate(self, validation: Validation) -> None:
        began = self.clock()
        with self.shared.whole(self.ema, self.trainable) as stage:
            if stage is not None:
                validation.run(stage, self.done)  # type: ignore[arg-type]
        self.accelerator.wait_for_everyone()
        self.since += self.clock() - began  # steps are timed, not this

    def _measured(self, part: str) -> Any:
        return nullcontext() if self.limit is None else self.limit.measured(part)


def write_history(folder: Path, recipe: Recipe, steps: int) -> None:
    """Keep with the model how it came to be: every stage's recipe and steps, in order (``training.json``)."""
    before = None if recipe.init_folder is None else recipe.init_folder / "training.json"
    stages = json.loads(before.read_text()) if before is not None and before.is_file() else []
    stages.append({"steps_done": steps, "recipe": recipe.to_dict()})
    (folder / "training.json").write_text(json.dumps(stages, indent=1))
