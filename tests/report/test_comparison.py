"""Published numbers are as printed; those of this run are below."""

import pytest

from sid2core.config import presets
from sid2core.report import comparison, published
from sid2core.report.read.inputs import Sampler
from tests.tiny import ROOT

# Table 5 of the supplement, as its text has it.
PRINTED = """\
Method	NFE	Inference cost (GFLOPs)	Sampling cost (TFLOPs)	Sampling time (s)	FID
StyleGAN-XL [38]	1	-	-	0.10	2.40
EDM2-S [20]	63	102	42.5	-	1.68
EDM2-XXL [20]	63	552	61.6	-	1.40
DiT-XL/2 [31]	250	525	262.5	-	2.40
Pagoda [22]	1	-	-	0.05	1.80
SiD2 16-step distilled (ours)	16	653	10.4	0.29	1.50
"""
UNITS = ("", " GFLOPs", " TFLOPs", " s", "")


def sampler(title: str, nfe: float, fd: float, gflops: float) -> Sampler:
    nan = float("nan")
    costs = nfe, gflops, nfe * gflops
    return Sampler(title, title, 8, 0, nan, nan, 10, fd, fd, 1, *costs, fd_eval_ratio=2 * fd)


def rows(*samplers: Sampler) -> dict[str, list[str]]:
    """Every row of the table in its order; a heading has no cells."""
    table = comparison.table(samplers, "digits")
    assert table.columns[-3:] == ("FID", "fd eval", "fd eval / real")
    return {row.name: [cell.text for cell in row.cells] for row in table.rows}


def test_the_published_rows_are_the_printed_ones() -> None:
    found = rows()
    for number, line in enumerate(PRINTED.splitlines()[1:], 1):
        method, *cells = line.split("\t")
        name = method.split(" [")[0].removesuffix(" (ours)")
        texts = [
            "–" if cell == "-" else cell + unit for cell, unit in zip(cells, UNITS, strict=True)
        ]
        assert found[name] == [*texts, "–", "–"]
        assert list(found)[number] == name
    assert list(found)[number + 1] == "SiD2 with guidance"


@pytest.mark.parametrize("model", ["small", "flop-heavy"])
@pytest.mark.parametrize("size", [256, 512])
def test_the_guided_rows_are_those_of_the_presets(model: str, size: int) -> None:
    known = presets.read(f"imagenet{size}-{model}", ROOT / "conf").evidence.published
    _, gflops, *_, fid, fd, _ = rows()[f"SiD2 {model.replace('-', ' ')}, ImageNet {size}"]
    assert (gflops, fid, fd) == (f"{known.gflops_forward} GFLOPs", f"{known.fid:.2f}", "–")


def test_this_run_is_last_and_has_no_fid() -> None:
    found = rows(sampler("base", 91, 0.2061, 0.00799), sampler("large", 1024, 3.0, 652.8))
    assert list(found)[-3:] == ["This run, on digits", "base", "large"]
    assert found["This run, on digits"] == []
    assert found["base"] == ["91", "7.99 MFLOPs", "727 MFLOPs", "–", "–", "0.206", "0.412"]
    assert found["large"] == ["1,024", "653 GFLOPs", "668 TFLOPs", "–", "–", "3.00", "6.00"]


def test_figure_16_has_the_known_points() -> None:
    assert {(p.method, p.gflops, p.fid, p.pixels) for p in published.figure_16()} == {
        ("EDM2-S", 102, 1.68, False),
        ("EDM2-XXL", 552, 1.40, False),
        ("DiT-XL/2", 525, 2.40, False),
        ("SiD2 small", 137.4, 2.19, True),
        ("SiD2 flop heavy", 652.8, 1.48, True),
        ("SiD2 16-step distilled", 653, 1.50, True),
    }
