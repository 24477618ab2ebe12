"""How the processes of a run share the work: each with all weights, or with a share of them (FSDP2).

PyTorch's ``fully_shard`` is called here directly, not through accelerate: the stage as a whole is the root, as its
``forward`` is the loss and reads layers of its networks outside their own ``forward`` (the reference's keys and
values), and parameters are sharded before the optimiser and the moving average are made of them.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from accelerate import Accelerator
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.system import processes
from animate_anyone.training.prefetching import without_weights
from animate_anyone.training.stage import Stage

GATHERED_APART = (ResnetBlock2D, AnimateDiffTransformer3D, FeedForward)
"""Layers whose weights are whole only while they compute; other weights are whole during the passes of a step."""

Sharding = Literal["none", "fsdp", "hsdp"]


class Replicas:
    """Every process holds all weights: one process, or ``DistributedDataParallel``.

    Attributes:
        stage: the networks.
        source: makes the batches.
        model: called for the losses, from :meth:`prepare` on.
    """

    def __init__(self, accelerator: Accelerator, stage: Stage[Any]) -> None:
        self.accelerator, self.stage = accelerator, stage
        self.source: Stage[Any] = stage
        self.model: Any = None

    def prepare(self, optimizer: torch.optim.Optimizer) -> Any:
        """Put everything where it computes; returns the optimiser to go on with."""
        self.model, optimizer = self.accelerator.prepare(self.stage, optimizer)
        return optimizer

    def passes(self, last: bool) -> AbstractContextManager[Any]:
        """Around a micro-batch; ``last`` of its step: gradients are summed up over the processes."""
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def clip(self, parameters: list[nn.Parameter], most: float) -> Tensor:
        """Clip the gradient to this norm; returns the norm that it had, over all processes."""
        norm: Tensor = self.accelerator.clip_grad_norm_(parameters, most)
        return norm

    @contextmanager
    def whole(self, ema: EMAModel | None, trained: list[nn.Parameter]) -> Iterator[Stage[Any] | None]:
        """The stage with whole and averaged weights on the first process, ``None`` on others."""
        if not self.accelerator.is_main_process:
            yield None
            return
        if ema is not None:
            ema.store(trained)
            ema.copy_to(trained)
        try:
            yield self.stage
        finally:
            if ema is not None:
                ema.restore(trained)


class Shards(Replicas):
    """Every process holds a share of the weights, their gradients, moments and average.

    Networks of which nothing is trained stay whole on each. ``kind``: ``fsdp`` shares out among all processes; ``hsdp``
    among those of a machine, and machines exchange gradients alone.

    Raises:
        InputError: this PyTorch is too old.
    """

    def __init__(self, accelerator: Accelerator, stage: Stage[Any], kind: Sharding) -> None:
        from torch.distributed.fsdp import fully_shard

        super().__init__(accelerator, stage)
        _check_version()
        self.source = without_weights(stage)  # type: ignore[assignment]
        stage.to(accelerator.device)
        # Where a layer's output is a view; nothing is added to one in place here.
        warnings.filterwarnings("ignore", r"FSDP2-wrapped module .* returned a view tensor", UserWarning)
        mesh = device_mesh(kind, accelerator.device)
        for module in layers_apart(stage):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        fully_shard(stage, mesh=mesh, ignored_params=set(replicated(stage)))

    def prepare(self, optimizer: torch.optim.Optimizer) -> Any:
        device, half = self.accelerator.device, self.accelerator.mixed_precision == "bf16"

        def model(*given: Any) -> Any:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                return self.stage(*given)

        self.model = model
        return optimizer

    @contextmanager
    def passes(self, last: bool) -> Iterator[None]:
        root: Any = self.stage
        root.set_requires_gradient_sync(last)
        yield

    def clip(self, parameters: list[nn.Parameter], most: float) -> Tensor:
        return whole_tensor(nn.utils.clip_grad_norm_(parameters, most))

    @contextmanager
    def whole(self, ema: EMAModel | None, trained: list[nn.Parameter]) -> Iterator[Stage[Any] | None]:
        """Gathered tensor by tensor; the first process alone keeps them, in memory that is not the device's."""
        main = self.accelerator.is_main_process
        average = {} if ema is None else {id(p): s for p, s in zip(trained, ema.shadow_params, strict=True)}
        gathered: dict[str, Tensor] = {}
        for name, tensor in (*self.stage.named_parameters(), *self.stage.named_buffers()):
            value = whole_tensor(average.get(id(tensor), tensor).detach())
            if main:
                gathered[name] = value.cpu()
        if not main:
            yield None
            return
        before = {name: _exchange(self.source, name, value) for name, value in gathered.items()}
        try:
            yield self.source
        finally:
            for name, value in before.items():
                _exchange(self.source, name, value)


def share_out(accelerator: Accelerator, stage: Stage[Any], kind: Sharding) -> Replicas:
    """How the processes of this run share the work; one process has all of it."""
    if kind == "none" or accelerator.num_processes == 1:
        return Replicas(accelerator, stage)
    return Shards(accelerator, stage, kind)


def replicated(stage: nn.Module) -> list[nn.Parameter]:
    """Parameters that are on every process: those of networks of which nothing is trained."""
    idle = [network for network in stage.children() if not any(p.requires_grad for p in network.parameters())]
    return [p for network in idle for p in network.parameters()]


def layers_apart(stage: nn.Module) -> list[nn.Module]:
    """The layers of :data:`GATHERED_APART` that are sharded, each before those that it is in."""
    whole = set(replicated(stage))
    layers = [layer for layer in stage.modules() if isinstance(layer, GATHERED_APART)]
    return [layer for layer in reversed(layers) if whole.isdisjoint(layer.parameters())]


def device_mesh(kind: Sharding, device: torch.device) -> Any:
    """All processes in a row, or in rows of machines: a ``DeviceMesh``."""
    from torch.distributed.device_mesh import init_device_mesh

    per_machine = processes.per_machine()
    machines, left_over = divmod(processes.count(), per_machine)
    if kind == "fsdp" or machines <= 1 or left_over:
        return init_device_mesh(device.type, (processes.count(),))
    return init_device_mesh(device.type, (machines, per_machine), mesh_dim_names=("replicate", "shard"))


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, gathered on all processes together; any other as it is."""
    return tensor.full_tensor() if _is_share(tensor) else tensor  # type: ignore[attr-defined,no-any-return]


def is_sharded(stage: nn.Module) -> bool:
    """Whether this process holds a share of the weights."""
    return any(map(_is_share, stage.parameters()))


def _is_share(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor, a class that not every PyTorch has


def _exchange(stage: nn.Module, name: str, value: Tensor) -> Tensor:
    """Put a parameter or buffer in the place of another; returns that one."""
    path, _, leaf = name.rpartition(".")
    module = stage.get_submodule(path)
    place: dict[str, Any] = module._parameters if leaf in module._parameters else module._buffers
    before: Tensor = place[leaf]
    place[leaf] = nn.Parameter(value, before.requires_grad) if isinstance(before, nn.Parameter) else value
    return before


def _check_version() -> None:
    import torch.distributed.checkpoint as library
    from torch.distributed.fsdp import fully_shard

    def takes(function: Callable[..., Any] | None, name: str) -> bool:
        return function is not None and name in inspect.signature(function).parameters

    writer = getattr(library, "HuggingFaceStorageWriter", None)
    if not (takes(fully_shard, "ignored_params") and takes(writer, "save_distributed")):
        raise InputError(
            f"recipe: sharding needs a newer PyTorch than {torch.__version__}; type: pip install -U torch, or give "
            "sharding=none"
        )
