"""Load Model: a shipped model, or a model folder in ``models/animate_anyone``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy_api.latest import io

from animate_anyone.models.shipped import INDEX, SHIPPED

from .running import check_listed, device_name, in_words_of_nodes, valid
from .values import Model

if TYPE_CHECKING:
    from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
    from animate_anyone.sampling.placement import Placement

FOLDER = "animate_anyone"
DTYPES = ("auto", "float32", "float16", "bfloat16")
OFFLOADS = ("none", "model", "group")
QUANTIZERS = ("none", "bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8")


def add_model_folder() -> None:
    """Make ``models/animate_anyone`` known to ComfyUI, with what a user's ``extra_model_paths.yaml`` adds."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def model_names() -> dict[str, str]:
    """Name -> what ``animate_anyone`` loads it by: the shipped ones by name, others by their folder."""
    names = {name: name for name in SHIPPED}
    for place in folder_paths.get_folder_paths(FOLDER):
        for index in sorted(Path(place).glob(f"*/{INDEX}")):
            names.setdefault(index.parent.name, str(index.parent))
    return names


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, with all that a workflow's settings say of it.

    Attributes:
        model: its name or folder.
        placement: how it was put onto this machine.
        pipeline: the networks.
    """

    model: str
    placement: Placement
    pipeline: AnimateAnyonePipeline

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a workflow that are about the model."""
        return {"model": self.model, **asdict(self.placement)}

    def load(self, model: str, *, placement: Placement) -> AnimateAnyonePipeline:
        """Given to a workflow in place of loading the model again."""
        assert (model, placement) == (self.model, self.placement)
        return self.pipeline


class LoadModel(io.ComfyNode):
    """The model is kept by ComfyUI's own cache of outputs, and by nothing else."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneLoadModel",
            display_name="Load Model (Animate Anyone)",
            category="Animate Anyone/models",
            description="Loads a model of Animate Anyone or Animate Anyone 2.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(model_names()),
                    default=SHIPPED[0],
                    tooltip="puppet animates, puppet-environment replaces: small models that come with the package. "
                    "Others are folders in models/animate_anyone.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="auto",
                    tooltip="Number type of the networks; auto takes what suits the machine.",
                ),
                io.Combo.Input(
                    "offload",
                    options=list(OFFLOADS),
                    default="none",
                    tooltip="What waits in the machine's memory until the GPU needs it: whole networks (model) or "
                    "single layers (group: least memory, slowest).",
                ),
                io.Boolean.Input(
                    "vae_tiling",
                    default=False,
                    tooltip="Decode large frames in overlapping tiles: less memory, slower.",
                ),
                io.Combo.Input(
                    "quantize",
                    options=list(QUANTIZERS),
                    default="none",
                    tooltip="Smaller weights: of large models on a CUDA GPU; needs the extra of that name.",
                ),
                io.Boolean.Input(
                    "compile",
                    default=False,
                    tooltip="torch.compile, on a CUDA GPU: some minutes at first, then faster.",
                ),
            ],
            outputs=[Model.Output(display_name="model", tooltip="For the nodes Animate and Replace.")],
        )

    @classmethod
    def validate_inputs(
        cls, model: str | None = None, offload: str = "none", quantize: str = "none", compile: bool = False
    ) -> bool | str:
        from animate_anyone.sampling.placement import Placement

        def check() -> None:
            if model is not None:  # what comes from another node is not known yet
                check_listed("model", model, model_names())
            Placement(device_name(), offload=offload, quantize=quantize, compile=compile).resolve()

        return valid(check)

    @classmethod
    def fingerprint_inputs(cls, model: str, **_: Any) -> Any:
        """A model whose files were changed is loaded again."""
        folder = model_names().get(model)
        if folder is None or folder in SHIPPED:
            return model
        from animate_anyone.system.stamps import stamp

        return str(stamp(Path(folder)))

    @classmethod
    def execute(
        cls, model: str, dtype: str, offload: str, vae_tiling: bool, quantize: str, compile: bool
    ) -> io.NodeOutput:
        from animate_anyone.sampling.loading import load_pipeline
        from animate_anyone.sampling.placement import Placement

        with in_words_of_nodes():
            placement = Placement(
                device_name(), dtype, offload=offload, vae_tiling=vae_tiling, quantize=quantize, compile=compile
            )
            check_listed("model", model, model_names())
            name = model_names()[model]
            return io.NodeOutput(LoadedModel(name, placement, load_pipeline(name, placement=placement)))
