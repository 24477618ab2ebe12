"""Our row among the published ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from animate_anyone.errors import InputError
from animate_anyone.evaluation.report import COLUMNS, choose_table, markdown, published, read_result

FIGURES = {"psnr": 20.126, "psnr_disco": 29.5, "ssim": 0.7, "l1": 0.0512, "lpips": 0.25, "frames_alike": 2}


def result(protocol: str = "disco-legacy", **more: Any) -> dict[str, Any]:
    return {
        "protocol": {"name": protocol},
        "layout": "tiktok",
        "num_videos": 10,
        "num_frames": 500,
        "metrics": dict(FIGURES),
        "needs": {"fvd": "needs i3d_pretrained_400.pt"},
        "backbones": {"lpips": [{"file": "vgg16-397923af.pth", "sha256": "ab" * 32}]},
    } | more


def test_published_rows() -> None:
    papers = ["aa1-ablation", "aa2-character", "aa2-environment", "aa2-ablation", "wan-animate"]
    assert list(published()) == ["ubc", "tiktok", "ted", *papers]
    assert [len(table["rows"]) for table in published().values()] == [8, 12, 5, 8, 4, 2, 3, 6]
    for table in published().values():
        assert table["source"].startswith("arXiv ")
        for row in table["rows"]:
            assert set(row) <= {"method", *COLUMNS}
            assert all(math.isfinite(row[key]) for key in row if key != "method")
            # The two kinds of PSNR are not mixed up: DisCo's never falls below 24.
            assert row.get("psnr_disco", 28) >= 28 > row.get("psnr", 0)
    for name, fvd in (("ubc", 175.4), ("tiktok", 225.5), ("ted", 158.3)):
        (baseline,) = [row for row in published()[name]["rows"] if row["method"] == "SD-I2V"]
        assert baseline["fvd"] == fvd and "second hand" in published()[name]["source"]
    anyone = next(row for row in published()["tiktok"]["rows"] if row["method"] == "Animate Anyone")
    assert anyone == {"method": "Animate Anyone", "ssim": 0.718, "psnr_disco": 29.56, "lpips": 0.285, "fvd": 171.9}


def test_our_row_stands_last_and_marked() -> None:
    lines = markdown([("my|run", result())], "tiktok").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 13 + 1
    head = "| method | SSIM | PSNR (DisCo's, overflowing) | PSNR (true) | L1 | LPIPS | FVD |"
    assert rows[0] == head
    assert "| Animate Anyone | 0.718 | 29.56 | – | – | 0.285 | 171.90 |" in rows
    assert rows[-1] == "| **my\\|run (ours)** | 0.700 | 29.50 | 20.13 | 0.0512 | 0.250 | – |"
    assert "arXiv 2502.06145" in lines[-1]
    assert "10 videos, 500 frames, 2 alike and left out of PSNR (true)" in lines[-1]
    assert "vgg16-397923af.pth abababababab; fvd not measured" in lines[-1]


def test_a_clean_result_gives_its_true_psnr_alone() -> None:
    text = markdown([("mine", result("clean"))], "ubc")
    assert "| **mine (ours)** [^1] | – | – | 20.13 | – | – | – |" in text
    assert "[^1]: Protocol clean: only the true PSNR is shown" in text
    alike = markdown([("mine", result("clean", metrics={"psnr": None, "frames_alike": 500}))], "ubc")
    assert "| **mine (ours)** [^1] | – | – | – | – | – | – |" in alike
    with pytest.raises(InputError, match=r"several protocols \(clean, disco-legacy\)"):
        markdown([("a", result("clean")), ("b", result())], "ubc")


def test_which_table() -> None:
    assert choose_table(None, [result(), result()]) == "tiktok"
    assert choose_table("ubc", [result()]) == "ubc"
    for asked, results, message in (
        (None, [result(), result(layout="ubc")], "not clear"),
        (None, [result(layout="plain")], "give --table and one of ubc, tiktok, ted"),
        ("cats", [result()], "--table cats: not known"),
    ):
        with pytest.raises(InputError, match=message):
            choose_table(asked, results)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("figures", "is no JSON"),
        ("[]", "no result of evaluate --generated"),
        ('{"protocol": {"name": "clean"}, "metrics": {"psnr": "high"}}', "no result of evaluate --generated"),
        ('{"suite": "puppet"}', "is of a suite"),
    ],
)
def test_what_is_no_result(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_result(file)


def test_a_result_is_read(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    file.write_text(json.dumps(result()))
    assert read_result(file) == result()
