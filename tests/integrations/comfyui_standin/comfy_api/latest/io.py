"""Types, schemas and nodes of ComfyUI's V3 form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class Input:
    """An input; ``io_type`` is that of the class in which a subclass stands."""

    io_type = ""

    def __init__(
        self, id: str, display_name: str | None = None, optional: bool = False, tooltip: str | None = None
    ) -> None:
        self.id, self.display_name, self.optional, self.tooltip = id, display_name, optional, tooltip
        self.options: dict[str, Any] = {}

    @property
    def is_widget(self) -> bool:
        """Whether its value is typed, where nothing is connected."""
        return bool(self.options)

    def as_dict(self) -> dict[str, Any]:
        """What the page is told of it."""
        return {"tooltip": self.tooltip, **{k: v for k, v in self.options.items() if v is not None}}


class Output:
    """An output."""

    io_type = ""

    def __init__(self, id: str | None = None, display_name: str | None = None, tooltip: str | None = None) -> None:
        self.id, self.display_name, self.tooltip = id, display_name, tooltip


def _type(name: str, takes: type[Input] = Input) -> Any:
    """A type with ``Input`` and ``Output`` of its own."""
    return type(
        name,
        (),
        {
            "io_type": name,
            "Input": type("Input", (takes,), {"io_type": name}),
            "Output": type("Output", (Output,), {"io_type": name}),
        },
    )


class _Number(Input):
    def __init__(
        self, id: str, *, default: Any = None, min: Any = None, max: Any = None, step: Any = None, **more: Any
    ) -> None:
        again = more.pop("control_after_generate", None)
        super().__init__(id, **more)
        assert default is not None and min <= default <= max, id
        self.options = {"default": default, "min": min, "max": max, "step": step, "control_after_generate": again}


class _Value(Input):
    def __init__(self, id: str, *, default: Any = None, **more: Any) -> None:
        super().__init__(id, **more)
        assert default is not None, id
        self.options = {"default": default}


class _Choice(Input):
    def __init__(self, id: str, *, options: list[str], default: str | None = None, **more: Any) -> None:
        super().__init__(id, **more)
        assert default is None or default in options, id
        self.options = {"options": options, "default": default}


class _Several(Input):
    def __init__(self, id: str, types: list[Any], **more: Any) -> None:
        super().__init__(id, **more)
        self.io_type = ",".join(one.io_type for one in types)


def Custom(io_type: str) -> Any:  # noqa: N802 - ComfyUI's own name
    """A type of somebody's own."""
    return _type(io_type)


Image, Mask, Video, Audio = (_type(name) for name in ("IMAGE", "MASK", "VIDEO", "AUDIO"))
Int, Float = _type("INT", _Number), _type("FLOAT", _Number)
String, Boolean, Combo = _type("STRING", _Value), _type("BOOLEAN", _Value), _type("COMBO", _Choice)
MultiType = _type("COMFY_MULTITYPED_V3", _Several)


@dataclass
class Schema:
    """What a node is."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    is_output_node: bool = False

    def validate(self) -> None:
        """As in ComfyUI, and: everything has a tooltip, and every output a name."""
        names = [one.id for one in self.inputs]
        assert len(set(names)) == len(names), f"{self.node_id}: inputs of one name: {names}"
        shown = [one.display_name for one in self.outputs]
        assert all(shown) and len(set(shown)) == len(shown), f"{self.node_id}: outputs: {shown}"
        for one in (*self.inputs, *self.outputs):
            assert one.tooltip and one.tooltip.endswith("."), f"{self.node_id}: {one.display_name or one}: no tooltip"
        assert self.outputs or self.is_output_node, f"{self.node_id}: gives nothing"


class NodeOutput:
    """What a node gives: ``args`` by the order of its outputs, and ``ui`` for the page."""

    def __init__(self, *args: Any, ui: dict[str, Any] | None = None) -> None:
        self.args, self.ui = args, ui

    @property
    def result(self) -> tuple[Any, ...]:
        """The outputs."""
        return self.args


class ComfyNode:
    """A node: ``define_schema`` and ``execute`` are its own."""

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802 - ComfyUI's own name
        """The schema, looked through."""
        schema = cls.define_schema()  # type: ignore[attr-defined]
        schema.validate()
        return schema  # type: ignore[no-any-return]
