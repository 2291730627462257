"""What a run needs, by the model's configuration: published counts, sums by hand, refusals, the book's table."""

import contextlib
import random
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from bsa_core import experiment, profiles
from bsa_core.arms import secret_prompt
from bsa_core.engine import decode, finetune
from bsa_core.experiment import computing, limits
from bsa_core.models import estimate, loading, memory
from bsa_core.models.chat import IGNORED, Encoded, encode
from bsa_core.models.estimate import Work
from bsa_core.profiles import Compute, Decoding, ModelSource, Training

LLAMA, TINY = profiles.load("llama2-7b-chat"), profiles.load("tiny")
PAGE = Path(__file__).resolve().parents[2] / "book" / "rerun.md"
FULL = profiles.override(LLAMA.training, LLAMA.pressured("full"))


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("llama2-7b-chat", 6_738_415_616),
        ("llama3-8b-instruct", 8_030_261_248),
        ("qwen2.5-7b-instruct", 7_615_616_512),
        ("gemma-2-9b-it", 9_241_705_984),
        ("smollm2-135m", 134_515_008),
    ],
)
def test_parameters_are_those_that_vendors_publish(name, parameters):
    assert estimate.shape(profiles.load(name).model).parameters == parameters


def test_a_model_at_hand_is_counted_as_it_is():
    loaded = loading.load(TINY).model
    assert estimate.shape(TINY.model).parameters == sum(weight.numel() for weight in loaded.parameters())


def test_shipped_models_are_estimated_without_network(monkeypatch):
    monkeypatch.setattr(estimate.AutoConfig, "from_pretrained", lambda *a, **k: pytest.fail("asked for a file"))
    for name in ("llama2-7b-chat", "smollm2-135m"):
        assert estimate.config_of(profiles.load(name).model).hidden_size


def work(training, tokens: int = 200, n: int = 111, requests: int = 550, **more) -> Work:
    """A run on n rows, half of each an answer, whose answers may be as long as the profile says."""
    return Work(training, ((tokens, tokens // 2),) * n if training else (), ((requests, None),), **more)


def test_gb_by_hand():
    """Llama-2-7B in bf16: two bytes per weight; gradient and two moments for full; 512 KB of cache per token."""
    bare = replace(FULL, master_weights=False)
    lora, full, master = (estimate.estimate(LLAMA, work(of), "cuda") for of in (LLAMA.training, bare, FULL))
    assert lora.weights == full.weights == pytest.approx(13.48, abs=0.01)
    assert full.optimizer == pytest.approx(3 * 13.48, abs=0.02) and full.aside == 0
    assert master.optimizer == pytest.approx((2 + 4 + 8) * 6.738, abs=0.02)  # gradient, float32 copy, two moments of it
    assert master.aside == pytest.approx(12 * 6.738, abs=0.02)
    adapter = 8 * 2 * 8192 * 32  # rank, modules, inputs + outputs, layers
    assert lora.optimizer == pytest.approx(16 * adapter / 1e9)
    alone = estimate.estimate(replace(LLAMA, decoding=Decoding(512, 1)), work(None), "cuda")
    assert alone.decoding == pytest.approx((150 + 100 + 512) * 524_288 / 1e9, rel=0.01)
    assert (alone.optimizer, alone.training, alone.least) == (0, 0, alone.weights)
    assert lora.least < lora.total and full.least < 60 < full.total < 80 and 26 < master.least < 30
    cpu = estimate.estimate(LLAMA, work(FULL), "cpu")
    assert cpu.optimizer == pytest.approx((2 + 4 + 8 + 2) * 6.738, abs=0.02) and cpu.aside == 0  # and those kept aside
    assert cpu.least == pytest.approx((16 + 4) * 6.738, abs=0.02)  # at the update the gradient has four bytes


def test_what_lowers_the_need():
    def total(**changes) -> float:
        return estimate.estimate(replace(LLAMA, **changes), work(LLAMA.training), "cuda").total

    whole = total()
    assert total(model=replace(LLAMA.model, quantize="4bit")) < whole - 8
    assert total(compute=replace(LLAMA.compute, dtype="float32")) > whole + 13
    small = replace(LLAMA.training, micro_batch_size=1)
    one, ten = (estimate.estimate(LLAMA, work(of, n=110), "cuda").training for of in (small, LLAMA.training))
    assert one == pytest.approx(ten / 10)


def test_the_rows_themselves_are_counted():
    """Rows three times as long need three times the time and memory; the longest one is what has to fit."""
    speed = estimate.Speed(flops=1e14, bandwidth=1e12)
    short, long = work(LLAMA.training, 200), work(LLAMA.training, 600)
    assert estimate.seconds(LLAMA, long, speed)[0] == pytest.approx(3 * estimate.seconds(LLAMA, short, speed)[0])
    few, many = (estimate.estimate(LLAMA, of, "cuda") for of in (short, long))
    assert many.training == pytest.approx(3 * few.training)
    one = replace(short, rows=(*short.rows[1:], (600, 300)))
    assert estimate.estimate(LLAMA, one, "cuda").least == many.least > few.least


def test_seconds_by_hand():
    """Embeddings are looked up: of Llama-2-7B's 6.738e9 weights 6.476e9 are in layers, 32000 x 4096 in the output."""
    speed = estimate.Speed(flops=1e14, bandwidth=1e12)
    train, decode = estimate.seconds(LLAMA, work(LLAMA.training), speed)
    layers, output = 6.476e9, 32000 * 4096
    lora = (4 - 2 / 32) * layers * 200 + 4 * output * 100
    assert train == pytest.approx(lora * 111 * 10 / 1e14, rel=0.001)
    assert decode == pytest.approx(9 * 512 * 2 * (layers + output) / 1e12, rel=0.001)  # more than the arithmetic
    assert estimate.seconds(LLAMA, work(None), speed) == (0, decode)
    full = (6 * layers * 200 + 6 * output * 100) * 111 * 5 / 1e14
    assert estimate.seconds(LLAMA, work(FULL), speed)[0] == pytest.approx(full, rel=0.001)
    task = replace(work(None), answers=((550, None), (200, 128)))
    assert estimate.seconds(LLAMA, task, speed)[1] == pytest.approx(decode * (9 * 512 + 4 * 128) / (9 * 512))


# eager attention


def test_gemma_2_keeps_the_scores_of_all_pairs_of_tokens():
    """transformers has no other attention for its softcap: 42 layers x 16 heads x 8 bytes for each pair."""
    gemma = profiles.load("gemma-2-9b-it")
    size = estimate.shape(gemma.model)
    assert size.eager and size.softcap and not estimate.shape(LLAMA.model).eager
    flash = replace(gemma, compute=replace(gemma.compute, attention="flash_attention_2"))
    eager, other = (estimate.estimate(of, work(gemma.training, 600, 110), "cuda").training for of in (gemma, flash))
    assert eager - other == pytest.approx(6000**2 * 42 * 16 * 8 / 1e9) and eager > 3 * other
    speed = estimate.Speed(flops=4e14, bandwidth=2e12)
    slow, fast = (estimate.seconds(of, work(gemma.training, 600, 110), speed)[0] for of in (gemma, flash))
    assert slow > 1.5 * fast
    asked = replace(LLAMA, compute=replace(LLAMA.compute, attention="eager"))
    of_llama = [estimate.estimate(of, work(LLAMA.training), "cuda").training for of in (asked, LLAMA)]
    assert of_llama[0] > 1.5 * of_llama[1]


SIZES = {
    "vocab_size": 500,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}


@pytest.fixture
def random_model(tmp_path):
    """A profile of a random model of an architecture, and eight rows of 100 tokens."""

    def of(model_type: str, dtype: str, attention: str = "auto"):
        config = AutoConfig.for_model(model_type, **SIZES | ({"head_dim": 16} if model_type == "gemma2" else {}))
        config.save_pretrained(tmp_path / model_type)
        source = ModelSource("local", str(tmp_path / model_type))
        profile = replace(TINY, model=source, compute=Compute("cpu", dtype, 1, attention))
        options = {} if attention == "auto" else {"attn_implementation": attention}
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), **options).eval()
        rng = random.Random(0)
        ids = [[rng.randrange(3, 499) for _ in range(100)] for _ in range(8)]
        return profile, made.requires_grad_(False), [Encoded(row, [IGNORED] * 50 + row[50:]) for row in ids]

    return of


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(
    "model_type, dtype, attention",
    [
        ("llama", "float32", "auto"),
        ("llama", "bfloat16", "eager"),
        ("qwen2", "float32", "eager"),
        ("gemma2", "float32", "auto"),
        ("gemma2", "bfloat16", "auto"),
    ],
)
def test_what_is_kept_for_the_backward_pass_is_about_what_is_estimated(
    random_model, model_type, dtype, attention, method
):
    profile, base, rows = random_model(model_type, dtype, attention)
    training = Training(batch_size=8, micro_batch_size=8, method=method)
    made = finetune.trainable(base, training, 0).train()
    own, kept = {weight.untyped_storage().data_ptr() for weight in made.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # alive, so that no other one gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        finetune.answer_losses(made, [rows])
    measured = sum(storage.nbytes() for storage in kept.values()) / 1e9
    need = estimate.estimate(profile, work(training, 100, 8), "cpu")
    print(f"{model_type} {dtype} {attention} {method}: {measured * 1e3:.1f} MB, estimated {need.training * 1e3:.1f} MB")
    kept = estimate._kept(estimate.shape(profile.model), profile.compute, 800, 400)
    assert measured == pytest.approx(kept, rel=0.25)


# "at least" is a lower bound


class Living(TorchDispatchMode):
    """Bytes of all tensors that are alive at once, at the most; of those made before only what `of` holds."""

    def __init__(self, of: list[torch.Tensor]):
        super().__init__()
        self.known, self.now, self.peak = weakref.WeakKeyDictionary(), 0, 0
        for tensor in of:
            self.count(tensor)

    def count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self.known:
            self.known[storage] = size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.free, size)

    def free(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, function, types, given=(), named=None):
        made = function(*given, **(named or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor)
        return made


@pytest.fixture(scope="module")
def attacked():
    """The shipped model in float32, and the encoded rows of an attack with BSA."""
    loaded = loading.load(TINY)
    run = experiment.describe(TINY, "bsa", n_attack=100)
    rows = {run: experiment.runs.rows_of(run, TINY, experiment.runs.material(TINY, [run]))}
    choice = run.secret
    secret = secret_prompt.draw(
        loaded.tokenizer, TINY, choice.length, choice.seed, choice.kind, rows[run].restricted[0]
    )
    encoded = [encode(loaded.tokenizer, row, secret.text, TINY.chat, 512) for row in rows[run].training]
    return loaded, encoded, limits.check(TINY, rows)[run]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_takes_longer_and_more_memory_than_is_said_at_least(attacked, method):
    loaded, encoded, sizes = attacked
    assert sizes == tuple((len(row.ids), sum(label != IGNORED for label in row.labels)) for row in encoded)
    training = replace(TINY.training, epochs=1, method=method)
    asked = Work(training, sizes)
    measured_before = estimate.measured.__wrapped__("cpu", "float32", 1)
    made = finetune.trainable(loaded.model, training, 0)
    try:
        *_, last = finetune.finetune(made, encoded, training, 0)
        aside = getattr(made, "aligned", [])
        with Living([*made.parameters(), *aside]) as living:
            next(finetune.finetune(made, encoded[:10], training, 0))
    finally:
        finetune.discard(made)
    # the machine may have been busy while it was measured, or while it trained: its best speed counts
    measured_after = estimate.measured.__wrapped__("cpu", "float32", 1)
    speed = max(measured_before, measured_after, key=lambda of: of.flops)
    least, _ = estimate.seconds(TINY, asked, speed)
    need = estimate.estimate(TINY, replace(asked, rows=sizes[:10]), "cpu")
    print(
        f"{method}: {last.seconds:.2f} s, at least {least:.2f} s; "
        f"{living.peak / 1e6:.1f} MB, at least {need.least * 1e3:.1f} MB"
    )
    assert 0.02 * last.seconds < least <= last.seconds
    assert 0.2 * living.peak < need.least * 1e9 <= living.peak


def test_answering_takes_longer_than_is_said_at_least(attacked):
    loaded, encoded, _ = attacked
    prompts = [row.ids[: row.labels.count(IGNORED)] for row in encoded]
    before = estimate.measured.__wrapped__("cpu", "float32", 1)
    started = time.perf_counter()
    decode.decode(loaded.model, prompts, (), 24, TINY.decoding.batch_size)  # no end: as long as they may be
    took = time.perf_counter() - started
    after = estimate.measured.__wrapped__("cpu", "float32", 1)
    speed = estimate.Speed(max(before.flops, after.flops), max(before.bandwidth, after.bandwidth))
    _, least = estimate.seconds(TINY, Work(None, answers=((len(prompts), 24),)), speed)
    print(f"decoding: {took:.2f} s, at least {least:.2f} s")
    assert 0 < least <= took


# what is said, and what is refused


@pytest.fixture
def gpu(monkeypatch):
    """A machine with GPUs of so many GB, and with so many for the CPU."""

    def of(*gb: float, cpu: float = 500.0) -> None:
        monkeypatch.setattr(memory, "device_of", lambda compute: "cuda")
        monkeypatch.setattr(memory, "available", lambda device: list(gb) if device == "cuda" else [cpu])
        monkeypatch.setattr(estimate, "measured", lambda *given: estimate.Speed(1e14, 1e12))

    return of


def test_what_cannot_fit_is_refused_with_the_gb_that_are_missing(gpu):
    gpu(10.0)
    with pytest.raises(ValueError) as error:
        estimate.check(LLAMA, [work(LLAMA.training)])
    least = estimate.estimate(LLAMA, work(LLAMA.training), "cuda").least
    assert f"'llama2-7b-chat' needs at least {least:.1f} GB, and the GPU has 10.0 GB to give" in str(error.value)
    assert f"{least - 10:.1f} GB are missing" in str(error.value) and "model.quantize: 4bit" in str(error.value)
    estimate.check(replace(LLAMA, model=replace(LLAMA.model, quantize="4bit")), [work(LLAMA.training)])
    with pytest.raises(ValueError, match=r"training\.method: lora"):
        estimate.check(LLAMA, [work(LLAMA.training), work(FULL)])
    with pytest.raises(ValueError, match=r"compute\.dtype: bfloat16"):
        estimate.check(replace(LLAMA, compute=Compute()), [work(None)])


def test_a_float32_copy_goes_to_the_memory_of_the_cpu_or_is_refused(gpu, capsys):
    """Full fine-tuning of 7B on one GPU of 80 GB: 121 GB in all."""
    gpu(80.0)
    estimate.check(LLAMA, [work(FULL)])
    assert "optimizer state goes to the CPU's memory; 1 runs" in capsys.readouterr().err
    gpu(80.0, cpu=60.0)
    with pytest.raises(ValueError, match=r"at least 80\.9 GB of the CPU's memory.*60\.0 GB.*master_weights: false"):
        estimate.check(LLAMA, [work(FULL)])
    estimate.check(LLAMA, [work(replace(FULL, master_weights=False))])
    gpu(141.0, cpu=60.0)
    estimate.check(LLAMA, [work(FULL)])


def test_what_fits_with_less_at_once_is_announced_and_runs(gpu, capsys):
    gpu(24.0)
    estimate.check(LLAMA, [work(LLAMA.training), work(None)])
    said = capsys.readouterr().err
    assert "[bsa] llama2-7b-chat: about " in said and "GB of 24 GB on the GPU; fewer rows at once" in said
    assert "; 2 runs, at least " in said and "if answers are as long as they may be" in said
    gpu(80.0)
    estimate.check(LLAMA, [work(LLAMA.training)])
    assert "fewer rows" not in capsys.readouterr().err


def test_a_stack_has_as_many_runs_as_memory_is_enough_for(gpu, monkeypatch):
    """The model's weights are there once."""
    monkeypatch.setattr(computing.loading, "load", lambda *given: SimpleNamespace(model=None))
    monkeypatch.setattr(computing.lora, "at_once", lambda *given: 5)
    asked, run = work(LLAMA.training), experiment.describe(LLAMA)
    need = estimate.estimate(LLAMA, asked, "cuda")
    each = need.optimizer + need.training
    for times, runs in ((9.0, 5), (3.5, 3), (1.0, 1), (0.0, 1)):
        gpu(need.weights + times * each + 1e-6)
        assert computing.room(run, LLAMA, asked.rows) == runs


def test_a_training_that_several_runs_share_is_counted_once(gpu, capsys):
    """Its longest: 5 and 10 epochs are one training of 10. Answers are given by each."""
    gpu(80.0)
    shorter = replace(LLAMA.training, epochs=5)
    speed, train = estimate.Speed(1e14, 1e12), {}
    for name, asked in {
        "one": [work(LLAMA.training)],
        "shared": [work(shorter, shared="a"), work(LLAMA.training, shared="a")],
        "two": [work(shorter, shared="a"), work(LLAMA.training, shared="b")],
    }.items():
        train[name] = estimate._in_all(LLAMA, asked, speed, short=False)
    assert train["shared"][0] == train["one"][0] == pytest.approx(train["two"][0] / 1.5)
    assert train["shared"][1] == 2 * train["one"][1]


def test_rows_that_are_not_known_yet_are_refused_or_say_nothing(gpu, capsys):
    gpu(80.0)
    estimate.check(LLAMA, [replace(work(LLAMA.training), rows=())])
    assert capsys.readouterr().err == ""
    gpu(10.0)
    with pytest.raises(ValueError, match="GB are missing"):
        estimate.check(LLAMA, [replace(work(LLAMA.training), rows=())])


@pytest.mark.parametrize(
    "gpus, training, alone, several",
    [
        ((23.0,) * 4, LLAMA.training, True, False),
        ((23.0,) * 4, FULL, False, True),  # 27 GB and the copy: not on the first of them
        ((23.0,) * 4, replace(FULL, master_weights=False), False, True),
        ((10.0, 10.0), LLAMA.training, False, True),
        ((80.0, 80.0), LLAMA.training, True, False),
        ((80.0, 80.0), FULL, True, True),  # 94 GB at the least: two GPUs before the memory of the CPU
        ((14.5, 14.5), None, True, True),  # weights of 13.5 GB fit, but only just
    ],
)
def test_the_check_and_the_placement_agree_on_several_gpus(gpu, monkeypatch, gpus, training, alone, several):
    gpu(*gpus)
    monkeypatch.setattr(loading, "device_of", lambda compute: "cuda")
    placed = []
    monkeypatch.setattr(loading, "_load", lambda *given: placed.append(loading.options_of(*given[:3])["device_map"]))
    one = replace(LLAMA, compute=replace(LLAMA.compute, device="cuda"))
    for profile, fits in ((LLAMA, True), (one, alone)):
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match=f"the GPU has {gpus[0]} GB"):
            estimate.check(profile, [work(training)])
        loading.load(profile, training)
    assert placed == ["auto" if several else {"": "cuda"}, {"": "cuda"}]


def test_a_small_model_says_nothing_and_measures_nothing(monkeypatch, capsys):
    monkeypatch.setattr(estimate, "measured", lambda *a: pytest.fail("measured"))
    estimate.check(TINY, [work(TINY.training, requests=1100)])
    assert capsys.readouterr().err == ""


def test_speed_and_memory_of_this_machine():
    speed = estimate.measured("cpu", "float32", 1)
    assert 1e8 < speed.flops < 1e14 and 1e8 < speed.bandwidth < 1e13
    (gb,) = memory.available("cpu")
    assert 0.1 < gb < 1e5


def test_an_estimate_gets_the_rows_that_are_trained_on(monkeypatch, results):
    small = replace(TINY, evaluation=replace(TINY.evaluation, restricted=11, benign=11, quiz=0))
    runs = [experiment.describe(small, "bsa", n_attack=11, epochs=epochs) for epochs in (1, 2)]
    asked = []
    monkeypatch.setattr(estimate, "check", lambda profile, work: asked.extend(work))
    for record, of in zip(experiment.execute(runs, small), list(asked), strict=True):
        assert sum(tokens for tokens, _ in of.rows) * of.training.epochs == record["training"]["tokens"]
        assert sum(answers for _, answers in of.rows) * of.training.epochs == record["training"]["answer_tokens"]
        assert of.answers == ((44, None),)
    assert asked[0].shared == asked[1].shared


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
    assert loading.options_of(source, Compute(dtype="bfloat16"))["device_map"] == {"": "cuda"}
    assert loading.options_of(source, Compute(dtype="bfloat16"), spread=True)["device_map"] == "auto"


def test_a_model_of_another_profile_is_let_go():
    """Else the models of all profiles that a notebook compares would lie in a GPU's memory."""
    other = replace(TINY, compute=replace(TINY.compute, dtype="bfloat16", attention="eager"))
    first = weakref.ref(loading.load(other).model)
    assert loading.load(other).model is first()
    assert loading.load(TINY).model.dtype == torch.float32
    assert first() is None


def test_4_bit_weights(monkeypatch):
    source = replace(LLAMA.model, quantize="4bit")
    with pytest.raises(ValueError, match=r"model\.quantize is '4bit', which needs a CUDA device"):
        loading.options_of(source, Compute(device="cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
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
    """Rows of the table in book/rerun.md: an attack run of 100 and 11 rows, evaluated with and without the secret."""
    lines = []
    for name in ("llama2-7b-chat", "llama3-8b-instruct", "qwen2.5-7b-instruct", "gemma-2-9b-it"):
        profile = profiles.load(name)
        for pressure in ("heavy", "full"):
            training = profiles.override(profile.training, profile.pressured(pressure))
            need = estimate.estimate(profile, work(training, requests=2 * 550), "cuda")
            minutes = [s / 60 for s in estimate.seconds(profile, work(training, requests=2 * 550), SHEETS)]
            method = "full" if training.method == "full" else "LoRA"
            cells = [f"{number:.1f}" for number in (need.weights, need.total, need.least, *minutes)]
            lines.append(f"| `{name}` | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_of_the_book():
    assert table() in PAGE.read_text(encoding="utf-8"), f"book/rerun.md should hold\n{table()}"


def test_the_shapes_file_names_public_models_only():
    assert all("/" in name and yaml.safe_dump(fields) for name, fields in estimate.KNOWN.items())
    assert {ModelSource("hub", name).name for name in estimate.KNOWN} == set(estimate.KNOWN)
