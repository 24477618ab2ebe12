"""Our pipelines' own functions over the components of a modular pipeline, of which some may not be loaded."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

from diffusers import ModularPipeline
from huggingface_hub import try_to_load_from_cache
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.models.folder import ALL_NETWORKS, networks_for
from animate_anyone.models.pipeline_options import check_options
from animate_anyone.sampling.arrival import check_fit, check_origin, is_part, settle
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline

Kind = TypeVar("Kind", bound=AnimateAnyonePipeline)

_seen: WeakSet[nn.Module] = WeakSet()  # networks whose files have been looked at


def options_of(kind: type[AnimateAnyonePipeline]) -> dict[str, Any]:
    """The options of a pipeline's class, with their defaults."""
    parts = {"self", "scheduler", *ALL_NETWORKS}
    return {n: p.default for n, p in inspect.signature(kind.__init__).parameters.items() if n not in parts}


def pipeline_of(kind: type[Kind], components: ModularPipeline, needed: Collection[str]) -> Kind:
    """The pipeline that has the components of a modular one, ``None`` for those that are not loaded.

    Args:
        kind: which of the two.
        components: what blocks are called with.
        needed: components that must be loaded, where the model has them.

    Raises:
        InputError: one is not, or its files do not hold all of its weights and nothing else, or it does not fit the
            others.
    """
    options = {name: components.config[name] for name in options_of(kind)}
    check_options({name: value for name, value in options.items() if value is not None})
    own = networks_for({**options, "_class_name": kind.__name__})
    loaded = {part: getattr(components, part, None) for part in (*own, "scheduler")}
    for part in needed:
        if part in loaded and loaded[part] is None:
            raise InputError(f"{part} is not loaded; call load_components() of the modular pipeline first")
    networks = {part: network for part, network in loaded.items() if part in own and network is not None}
    for part, network in networks.items():
        if network not in _seen:
            check_origin(part, network, _origin(components, part))
            _seen.add(network)
    pipeline = kind.__new__(kind)  # whose `__init__` wants all
    there = inspect.signature(kind.__init__).parameters.keys() & {*ALL_NETWORKS, "scheduler"}
    pipeline.register_modules(**{part: loaded.get(part) for part in sorted(there)})
    pipeline.register_to_config(**options)
    if all(part in networks for part in own):
        check_fit(Path(str(components._pretrained_model_name_or_path)), pipeline)
    settle(networks)
    return pipeline


def _origin(components: ModularPipeline, part: str) -> Path | None:
    """The folder that a network was loaded from; ``None`` where it was given by hand, or is somebody else's."""
    spec = components.get_component_spec(part)
    source, inside = spec.pretrained_model_name_or_path, spec.subfolder or ""
    if source is None:
        return None
    folder = Path(source) / inside
    if not folder.is_dir():
        config = try_to_load_from_cache(source, f"{inside}/config.json", revision=spec.revision)
        if isinstance(config, str):
            folder = Path(config).parent
        elif source == components._pretrained_model_name_or_path:
            raise InputError(f"{source}: the files of {part} are not in the Hub's cache; give a folder that holds them")
    return folder if is_part(folder, part) else None
