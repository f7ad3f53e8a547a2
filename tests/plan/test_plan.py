"""Time, memory and cures compared with sums by hand; the command for people and programs."""

import json
from dataclasses import replace

import jax
import pytest

from sid2core.cli import main
from sid2core.conditioning import ConditionSpec
from sid2core.config import presets
from sid2core.models.execution import Remat
from sid2core.plan import hardware, plan, text
from sid2core.plan.hardware import Hardware
from sid2core.plan.memory import Activations
from sid2core.plan.plan import Negative, Price, cures, on_hardware
from tests import tiny

GB = 10**9
ACTIVATIONS = (
    Activations(Remat.NONE, 10 * GB, 0, 1),
    Activations(Remat.BLOCKS, 2 * GB, 1 * GB, 2),
    Activations(Remat.FULL, 1 * GB, 1 * GB, 3),
)
PRICE = Price(
    shape=(8, 8, 3),
    given_frames=0,
    classes=2,
    parameters=GB,
    gflops=100.0,
    gflops_xla=101.0,
    levels=(),
    terms=(),
    state_bytes=16 * GB,
    gradient_bytes=4 * GB,
    activations=ACTIVATIONS,
    sampling_bytes=GB // 10,
    drawn=50,
    examples=10**9,
    text=None,
)


def planned(memory=100, devices=4, batch=4, remat=Remat.NONE, utilisation=0.5, price=PRICE):
    device = Hardware("one", memory * GB, 1e15, "made up")
    return on_hardware(price, device, devices, batch, remat, utilisation)


def test_training_costs_three_forward_passes_per_example():
    assert PRICE.training_zettaflops == pytest.approx(100e9 * 3 * 1e9 / 1e21)


def test_days_are_flops_divided_by_the_rate_of_the_devices():
    seconds = 100e9 * 3 * 1e9 / (4 * 1e15 * 0.5)
    assert planned().days == pytest.approx(seconds / 86_400)
    assert planned(remat=Remat.BLOCKS).days == pytest.approx(seconds / 86_400 * 4 / 3)
    assert planned(remat=Remat.FULL).days == pytest.approx(seconds / 86_400 * 5 / 3)


def test_the_largest_batch_follows_from_the_memory():
    """90 of 100 GB are usable: minus 20 for replicated state, or 5 for state sharded over four."""
    most = {(one.remat, one.sharded): one.most for one in planned().fits}
    assert most == {
        (Remat.NONE, False): 7,
        (Remat.BLOCKS, False): 23,
        (Remat.FULL, False): 35,
        (Remat.NONE, True): 8,
        (Remat.BLOCKS, True): 28,
        (Remat.FULL, True): 42,
    }
    assert planned(batch=28).fitting
    assert not planned(batch=29).fitting
    assert planned(batch=9).chosen.bytes == 20 * GB + 3 * 10 * GB


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (28, []),
        (
            32,
            [
                "train.accumulation=2",
                "runtime.mesh.data=1 and runtime.mesh.fsdp=4",
                "runtime.remat=blocks",
            ],
        ),
        (92, ["train.accumulation=23", "runtime.remat=blocks"]),
        (
            168,
            [
                "train.accumulation=7",
                "runtime.remat=full and runtime.mesh.data=1 and runtime.mesh.fsdp=4",
            ],
        ),
    ],
)
def test_cures_are_sufficient_and_the_fastest_comes_first(batch, expected):
    assert cures(planned(batch=batch))[: len(expected)] == expected


def test_the_largest_batch_is_named_if_only_a_smaller_one_helps():
    found = cures(planned(batch=1000))
    assert found == [
        "train.accumulation=50",
        "lower train.batch_size to 28 (7 per device; remat none)",
        "lower train.batch_size to 168 (42 per device; remat full, FSDP)",
    ]


def test_a_batch_in_parts_needs_the_memory_of_one_part_and_of_two_gradients():
    """24 replicated, and 10 for each example of a part on a device."""
    parts = replace(PRICE, accumulation=2)
    found = planned(batch=48, price=parts)
    assert (found.local, found.chosen.most) == (6, 6)
    assert found.chosen.bytes == (24 + 6 * 10) * GB
    assert found.fitting
    assert "a batch of 48 (6 per device at once, accumulation 2) with remat none" in "\n".join(
        text.lines(found)
    )


@pytest.mark.slow
def test_the_512_flop_heavy_model_fits_eight_devices_in_parts():
    """A batch of 2,048, as the paper's; the cure that is named is sufficient."""
    preset = presets.read("imagenet512-flop-heavy", tiny.ROOT / "conf")
    params = presets.change(preset, tiny.ROOT / "params.yaml").params
    condition = ConditionSpec.of_classes(1000)
    whole = plan.price(params, (512, 512, 3), condition, "recomputed")
    for name, parts in (("h100", 4), ("h200", 2)):
        assert hardware.attention(name) == "recomputed"
        remat, device = Remat(params.runtime.remat), hardware.hardware(name)
        found = on_hardware(whole, device, 8, 2048, remat, 0.4)
        assert not found.fitting
        assert cures(found)[0] == f"train.accumulation={parts}"
        split = replace(whole, accumulation=parts)
        assert on_hardware(split, device, 8, 2048, remat, 0.4).fitting


def test_an_error_says_that_nothing_helps():
    (found,) = cures(planned(memory=5))
    assert "not even one example fits" in found


def test_a_plan_of_parameters():
    found = plan.price(tiny.params(), (8, 8, 1), ConditionSpec.of_classes(10))
    assert (
        found.parameters
        == sum(one.parameters for one in found.levels)
        + 16 * 11
        + 2 * (16 * 16 + 16)
        + (4 * 8 + 8)
        + (4 * 8 + 1)
        + 2 * 8
    )
    assert found.examples == 30 * 16
    assert found.state_bytes == 16 * found.parameters
    emas = [{"kind": "decay", "value": 0.5}, {"kind": "power", "value": 0.1}]
    more = plan.price(tiny.params(train={"emas": emas}), (8, 8, 1), ConditionSpec.of_classes(10))
    assert more.state_bytes == 24 * found.parameters


def test_a_negative_of_a_tenth_of_the_products_takes_a_tenth_of_the_time():
    negative = Negative(parameters=GB // 9, gflops=50.0, examples=2 * 10**8)
    found = planned(price=replace(PRICE, negative=negative), remat=Remat.BLOCKS)
    assert negative.training_zettaflops == pytest.approx(PRICE.training_zettaflops / 10)
    assert found.negative_days == pytest.approx(found.days / 10)
    (line,) = [line for line in text.lines(found) if line.startswith("train_negative")]
    assert line.startswith("train_negative: 111,111,111 parameters, 50 GFLOPs")
    assert text.as_json(found)["negative"]["examples"] == 2 * 10**8
    assert planned().negative_days is None


def test_the_price_of_a_negative_is_that_of_its_model():
    same, small = (
        plan._negative(
            tiny.params(train_negative={"steps": 3, "model": model}),
            (8, 8, 1),
            ConditionSpec.of_classes(10),
        )
        for model in ({}, {"channels": [8, 8], "emb_channels": 8})
    )
    assert same.examples == 3 * 16
    assert same.parameters == 5465, "as conf/tiny.yaml has it"
    assert small.parameters < same.parameters
    assert small.gflops < same.gflops


def run(capsys, *arguments):
    code = main.main(["plan", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def root(tmp_path, monkeypatch):
    tiny.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_for_people(root, capsys):
    code, out, _ = run(capsys, "--devices", "2", "--batch", "10")
    assert code == 0
    assert "examples of 8 × 8 × 1, 10 classes" in out
    assert "on 2 × h200" in out
    assert "a batch of 10 (5 per device) with remat none" in out
    assert "it fits" in out
    assert "drawing 16 at once takes" in out


def test_the_command_for_programs(root, capsys):
    code, out, _ = run(
        capsys, "--json", "--shape", "16x16x3", "--classes", "7", "--hardware", "cpu"
    )
    found = json.loads(out)
    assert code == 0
    assert found["shape"] == [16, 16, 3]
    assert found["classes"] == 7
    assert {"gflops", "gflops_xla", "parameters", "levels", "fits", "cures"} <= set(found)
    assert found["hardware"]["name"] == "cpu"
    assert found["gflops_xla"] == pytest.approx(found["terms"][-1]["gflops"])


def test_a_plan_allocates_no_weight(monkeypatch):
    """Allocating an array fails while the cost is computed."""

    def refused(*_, **__):
        pytest.fail("it allocated")

    monkeypatch.setattr(jax, "device_put", refused)
    before = {id(array) for array in jax.live_arrays()}
    plan.price(tiny.params(), (8, 8, 1), ConditionSpec.of_classes(10))
    new = [array for array in jax.live_arrays() if id(array) not in before]
    assert sum(array.size for array in new) < 100


def test_missing_data_need_classes(root, capsys):
    tiny.write(root, data=tiny.source("folder", path="nowhere", image_size=16, channels=3))
    code, _, err = run(capsys)
    assert code == 1
    assert "nowhere" in err
    assert "--classes" in err
    assert run(capsys, "--classes", "3")[0] == 0


def test_json_has_only_finite_numbers():
    found = text.as_json(planned())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--devices=0", "'0' is not a whole number of at least 1"),
        ("--devices=x", "'x' is not a whole number of at least 1"),
        ("--batch=2.5", "'2.5' is not a whole number of at least 1"),
        ("--utilisation=2", "'2' is not a share between 0 and 1"),
        ("--utilisation=half", "'half' is not a share between 0 and 1"),
        ("--shape=8x8", "'8x8' is not HxWxC or FxHxWxC"),
        ("--shape=8xax3", "'8xax3' is not HxWxC or FxHxWxC, whole numbers such as 32x32x3"),
        ("--shape=8x0x3", "'8x0x3' is not HxWxC or FxHxWxC"),
    ],
)
def test_arguments_out_of_range_are_refused(argument, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["plan", argument])
    assert caught.value.code == 2
    assert f"argument {argument.split('=')[0]}: {words}" in capsys.readouterr().err
