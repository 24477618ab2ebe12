"""A missing extra names its install line; a broken one says what it raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from animate_anyone.errors import InputError
from animate_anyone.optional import require


def test_present() -> None:
    assert require("json.decoder", "pose").JSONDecoder


@pytest.mark.parametrize("module", ["no_such_package_here", "no_such_package_here.part", "json.no_such_part"])
def test_missing(module: str) -> None:
    with pytest.raises(InputError) as error:
        require(module, "pose")
    assert str(error.value) == f'{module} is not installed; type: pip install "animate-anyone[pose]"'


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('operator x\\ndoes not exist')", "RuntimeError: operator x does not exist"),
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("from json import no_such_name", "ImportError: cannot import name"),
        ("raise OSError", "OSError: no message"),
    ],
)
def test_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str) -> None:
    (tmp_path / "broken_package.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError) as error:
        require("broken_package", "lpips")
    message = str(error.value)
    assert message.startswith(f"broken_package is installed but its import fails with {said}")
    assert message.endswith('pip install "animate-anyone[lpips]"')
    assert "\n" not in message
