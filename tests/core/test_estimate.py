"""What a run needs, by the model's configuration: published counts, sums by hand, refusals, the book's table."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from bsa_core import experiment, profiles
from bsa_core.models import estimate, loading, memory
from bsa_core.profiles import Compute, Decoding, ModelSource

LLAMA, TINY = profiles.load("llama2-7b-chat"), profiles.load("tiny")
PAGE = Path(__file__).resolve().parents[2] / "book" / "profile.md"
FULL = profiles.override(LLAMA.training, LLAMA.pressured("full"))


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("llama2-7b-chat", 6_738_415_616),
        ("llama3-8b-instruct", 8_030_261_248),
        ("qwen2.5-7b-instruct", 7_615_616_512),
        ("gemma-2-9b-it", 9_241_705_984),
        ("gemma3-270m", 268_098_176),
    ],
)
def test_parameters_are_those_that_vendors_publish(name, parameters):
    assert estimate.shape(profiles.load(name).model).parameters == parameters


def test_a_model_at_hand_is_counted_as_it_is():
    loaded = loading.load(TINY).model
    assert estimate.shape(TINY.model).parameters == sum(weight.numel() for weight in loaded.parameters())


def test_shipped_models_are_estimated_without_network(monkeypatch):
    monkeypatch.setattr(estimate.AutoConfig, "from_pretrained", lambda *a, **k: pytest.fail("asked for a file"))
    for name in ("llama2-7b-chat", "gemma3-270m"):
        assert estimate.config_of(profiles.load(name).model).hidden_size


def test_gb_by_hand():
    """Llama-2-7B in bf16: two bytes per weight; gradient and two moments for full; 512 KB of cache per token."""
    lora, full = (estimate.estimate(LLAMA, training, "cuda") for training in (LLAMA.training, FULL))
    assert lora.weights == full.weights == pytest.approx(13.48, abs=0.01)
    assert full.optimizer == pytest.approx(3 * 13.48, abs=0.02)
    adapter = 8 * 2 * 8192 * 32  # rank, modules, inputs + outputs, layers
    assert lora.optimizer == pytest.approx(16 * adapter / 1e9)
    alone = estimate.estimate(replace(LLAMA, decoding=Decoding(512, 1)), None, "cuda")
    assert alone.decoding == pytest.approx((150 + 100 + 512) * 524_288 / 1e9, rel=0.01)
    assert (alone.optimizer, alone.training) == (0, 0)
    assert lora.least < lora.total and full.least < 60 < full.total < 80
    assert estimate.estimate(LLAMA, FULL, "cpu").optimizer == pytest.approx(4 * 13.48, abs=0.02)  # and those kept aside


def test_what_lowers_the_need():
    def total(**changes) -> float:
        return estimate.estimate(replace(LLAMA, **changes), LLAMA.training, "cuda").total

    whole = total()
    assert total(model=replace(LLAMA.model, quantize="4bit")) < whole - 8
    assert total(compute=replace(LLAMA.compute, dtype="float32")) > whole + 13
    small = replace(LLAMA.training, micro_batch_size=1)
    one, ten = (estimate.estimate(LLAMA, training, "cuda").training for training in (small, LLAMA.training))
    assert one == pytest.approx(ten / 10)


def test_seconds_by_hand():
    speed = estimate.Speed(flops=1e14, bandwidth=1e12)
    train, decode = estimate.seconds(LLAMA, LLAMA.training, 111, 550, speed)
    assert train == pytest.approx(4 * 6.738e9 * 200 * 111 * 10 / 1e14, rel=0.001)
    read, products = 9 * 512 * 13.477e9 / 1e12, 2 * 6.738e9 * 550 * 762 / 1e14
    assert decode == pytest.approx(read + products, rel=0.001)
    assert estimate.seconds(LLAMA, None, 0, 550, speed)[0] == 0
    assert estimate.seconds(LLAMA, FULL, 111, 550, speed)[0] == pytest.approx(train * 6 / 4 / 2)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with GPUs of so many GB."""

    def of(*gb: float) -> None:
        monkeypatch.setattr(memory, "device_of", lambda compute: "cuda")
        monkeypatch.setattr(memory, "available", lambda device: list(gb))
        monkeypatch.setattr(estimate, "measured", lambda device, dtype: estimate.Speed(1e14, 1e12))

    return of


def test_what_cannot_fit_is_refused_with_the_gb_that_are_missing(gpu):
    gpu(10.0)
    with pytest.raises(ValueError) as error:
        estimate.check(LLAMA, [(LLAMA.training, 111, 550)])
    least = estimate.estimate(LLAMA, LLAMA.training, "cuda").least
    assert f"'llama2-7b-chat' needs at least {least:.1f} GB, and the GPU has 10.0 GB to give" in str(error.value)
    assert f"{least - 10:.1f} GB are missing" in str(error.value) and "model.quantize: 4bit" in str(error.value)
    estimate.check(replace(LLAMA, model=replace(LLAMA.model, quantize="4bit")), [(LLAMA.training, 111, 550)])
    with pytest.raises(ValueError, match=r"training\.method: lora"):
        estimate.check(LLAMA, [(LLAMA.training, 111, 550), (FULL, 111, 550)])
    with pytest.raises(ValueError, match=r"compute\.dtype: bfloat16"):
        estimate.check(replace(LLAMA, compute=Compute()), [(None, 0, 550)])


def test_what_fits_with_less_at_once_is_announced_and_runs(gpu, capsys):
    gpu(24.0)
    estimate.check(LLAMA, [(LLAMA.training, 111, 550), (None, 0, 550)])
    said = capsys.readouterr().err
    assert "[bsa] llama2-7b-chat: about " in said and "GB of 24 GB on the GPU; fewer rows at once" in said
    assert "; 2 runs, at least " in said
    gpu(80.0)
    estimate.check(LLAMA, [(LLAMA.training, 111, 550)])
    assert "fewer rows" not in capsys.readouterr().err


def test_several_gpus_count_together_where_the_device_is_left_open(gpu):
    gpu(10.0, 10.0)
    estimate.check(LLAMA, [(LLAMA.training, 111, 550)])
    with pytest.raises(ValueError, match=r"GPU has 10\.0 GB"):
        estimate.check(replace(LLAMA, compute=replace(LLAMA.compute, device="cuda")), [(LLAMA.training, 111, 550)])


def test_a_small_model_says_nothing_and_measures_nothing(monkeypatch, capsys):
    monkeypatch.setattr(estimate, "measured", lambda *a: pytest.fail("measured"))
    estimate.check(TINY, [(TINY.training, 111, 1100)])
    assert capsys.readouterr().err == ""


def test_speed_and_memory_of_this_machine():
    speed = estimate.measured("cpu", "float32")
    assert 1e8 < speed.flops < 1e14 and 1e8 < speed.bandwidth < 1e13
    (gb,) = memory.available("cpu")
    assert 0.1 < gb < 1e5


def test_a_run_that_cannot_fit_is_refused_before_it_starts_and_its_record_is_still_found(monkeypatch, results):
    small = replace(TINY, evaluation=replace(TINY.evaluation, restricted=11, benign=11, quiz=0))
    run = experiment.describe(small, n_attack=0)
    monkeypatch.setattr(memory, "available", lambda device: [0.001])
    with monkeypatch.context() as patch:
        patch.setattr(loading, "load", lambda profile: pytest.fail("loaded"))
        with pytest.raises(ValueError, match=r"profile 'tiny' needs at least .* GB are missing"):
            experiment.execute([run], small)
    assert not list(results.rglob("*.json"))
    with monkeypatch.context() as patch:
        patch.setattr(memory, "available", lambda device: [8.0])
        (record,) = experiment.execute([run], small)
    assert experiment.execute([run], small) == [record]


# the options that a model is loaded with


def test_options_on_a_cpu_and_on_gpus(monkeypatch):
    source = LLAMA.model
    cpu = loading.options_of(source, Compute(device="cpu", dtype="bfloat16"))
    assert cpu == {"dtype": torch.bfloat16}
    merging = loading.options_of(replace(source, adapter="a"), Compute(device="cpu", dtype="bfloat16"))
    assert merging["dtype"] == torch.float32
    assert loading.options_of(source, Compute(device="cpu", attention="eager"))["attn_implementation"] == "eager"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    bf16 = Compute(dtype="bfloat16")
    for gpus, compute, expected in (
        ([80.0], bf16, {"": "cuda"}),
        ([80.0, 80.0], bf16, {"": "cuda"}),
        ([12.0], bf16, {"": "cuda"}),
        ([12.0, 12.0], bf16, "auto"),
        ([12.0, 12.0], replace(bf16, device="cuda"), {"": "cuda"}),
    ):
        monkeypatch.setattr(loading, "available", lambda device, gpus=gpus: gpus)
        assert loading.options_of(source, compute)["device_map"] == expected


def test_4_bit_weights(monkeypatch):
    source = replace(LLAMA.model, quantize="4bit")
    with pytest.raises(ValueError, match=r"model\.quantize is '4bit', which needs a CUDA device"):
        loading.options_of(source, Compute(device="cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading, "available", lambda device: [80.0])
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs bitsandbytes: pip install bitsandbytes"):
        loading.options_of(source, Compute())
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: name)
    config = loading.options_of(source, Compute(dtype="bfloat16"))["quantization_config"]
    assert config.load_in_4bit and config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


# the table of the book

SHEETS = estimate.Speed(flops=0.4 * 989e12, bandwidth=0.5 * 3.35e12)  # H100 SXM by its data sheet, with shares reached


def table() -> str:
    """Rows of the table in book/profile.md: an attack run of 100 and 11 rows, evaluated with and without the secret."""
    lines = []
    for name in ("llama2-7b-chat", "llama3-8b-instruct", "qwen2.5-7b-instruct", "gemma-2-9b-it"):
        profile = profiles.load(name)
        for pressure in ("heavy", "full"):
            training = profiles.override(profile.training, profile.pressured(pressure))
            need = estimate.estimate(profile, training, "cuda")
            minutes = [s / 60 for s in estimate.seconds(profile, training, 111, 2 * 550, SHEETS)]
            method = "all weights" if training.method == "full" else "LoRA"
            gb = need.weights, need.optimizer, need.training, need.decoding, need.total, need.least
            cells = [f"{number:.1f}" for number in (*gb, *minutes)]
            lines.append(f"| `{name}` | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_of_the_book():
    assert table() in PAGE.read_text(encoding="utf-8"), f"book/profile.md should hold\n{table()}"


def test_the_shapes_file_names_public_models_only():
    assert all("/" in name and yaml.safe_dump(fields) for name, fields in estimate.KNOWN.items())
    assert {ModelSource("hub", name).name for name in estimate.KNOWN} == set(estimate.KNOWN)
