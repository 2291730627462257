"""Runs that are stacked against each alone, and LoRA's layers against PEFT's own."""

import json
from dataclasses import replace
from itertools import chain

import pytest
import torch
from peft.tuners.lora.layer import Linear
from toys import CONFIGS, lively_model, model, rows
from transformers import AutoConfig

from bsa_core import experiment, profiles
from bsa_core.engine import finetune as engine
from bsa_core.engine import lora
from bsa_core.engine.decode import decode
from bsa_core.engine.finetune import Job, add_lora, answer_losses, discard, finetune, together
from bsa_core.models import attention, selfcheck
from bsa_core.profiles import Evaluation, SecretPrompt, Training

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SKIP = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, SKIP])
TRAINING = Training(epochs=3, batch_size=4, micro_batch_size=3, rank=4, alpha=8, dropout=0.2, learning_rate=0.01)


def of(made, name: str) -> dict[str, torch.Tensor]:
    """The weights of one adapter, by the name that they have alone."""
    named = {path: weight.detach().clone() for path, weight in made.named_parameters() if f".{name}." in path}
    return {path.replace(f".{name}.", "."): weight for path, weight in named.items()}


def several(training: Training) -> list[tuple]:
    """Runs that differ in all that runs of a stack may differ in: rows, training, seed."""
    return [
        (rows(11, seed=1), training, 0),
        (rows(4, seed=2), replace(training, epochs=2, learning_rate=0.002), 7),
        (rows(9, seed=3), replace(training, weight_decay=0.3, decay_per_epoch=1.0), 2),
    ]


def base(architecture: str, device: str = "cpu"):
    made = model(architecture).to(device).requires_grad_(False)
    made.manner = selfcheck.found(made, list(range(4, 60)))
    return made


def equal_to_runs_alone(architecture: str, training: Training, device: str = "cpu") -> None:
    made, jobs = base(architecture, device), several(training)
    alone = []
    for job in jobs:
        adapted = engine.trainable(made, *job[1:])
        *_, last = finetune(adapted, *job)
        alone.append((last.losses, last.tokens, of(adapted, lora.ALONE)))
        discard(adapted)
    names = lora.names(len(jobs))
    stack = engine.trainable(made, training, *(seed for _, _, seed in jobs))
    found = [*chain(*together(stack, [Job(name, *job) for name, job in zip(names, jobs, strict=True)]))]
    last = {job.name: progress for job, progress in found}
    shares = {progress.seconds / progress.tokens for job, progress in found if progress.epoch == 1}
    assert max(shares) == pytest.approx(min(shares)), "a run's seconds are its share, by tokens"
    for name, (losses, tokens, weights) in zip(names, alone, strict=True):
        assert last[name].losses == pytest.approx(losses, rel=1e-4) and last[name].tokens == tokens
        assert max(weights[path].abs().max() for path in weights if "lora_B" in path) > 1e-3
        for path, weight in of(stack, name).items():
            torch.testing.assert_close(weight, weights[path], atol=1e-4, rtol=1e-3)
    discard(stack)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_LINEAR], ids=["q and v", "all linear"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_stack_gives_what_each_run_gives_alone(architecture, targets):
    """Dropout included, which each run draws from numbers of its own."""
    equal_to_runs_alone(architecture, replace(TRAINING, targets=targets))


@pytest.mark.parametrize("device", [CUDA])
def test_a_stack_gives_what_each_run_gives_alone_on_a_gpu(device):
    equal_to_runs_alone("llama", replace(TRAINING, targets=ALL_LINEAR), device)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_are_those_of_peft(dropout, dtype):
    """PEFT's adapters stay in float32 where the model's numbers are shorter."""
    batch, found = rows(5), []
    for ours in (True, False):
        made = add_lora(base("llama").to(dtype), replace(TRAINING, targets=ALL_LINEAR, dropout=dropout), seed=0)
        layers = [module for module in made.modules() if type(module) is Linear]
        if not ours:
            for layer in layers:
                del layer.forward
        torch.manual_seed(1)
        with torch.no_grad():
            for layer in layers:
                layer.lora_B["default"].weight.normal_(std=0.1)
        made.train()
        torch.manual_seed(2)
        (loss,) = answer_losses(made, [batch])
        loss.backward()
        found.append((loss.item(), {name: w.grad for name, w in made.named_parameters() if w.requires_grad}))
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    assert found[0][0] == pytest.approx(found[1][0], rel=tolerance)
    scale = max(grad.abs().max().item() for grad in found[1][1].values())
    for name, grad in found[1][1].items():
        torch.testing.assert_close(found[0][1][name], grad, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_rows_padded_for_a_gpu_are_rows_one_by_one(architecture, monkeypatch):
    batch, found = rows(7), []
    for way in (attention._one_by_one, attention._padded):
        monkeypatch.setattr(attention, "_one_by_one", way)
        made = add_lora(base(architecture), replace(TRAINING, dropout=0.0), seed=0)
        assert made.manner.by_row
        (loss,) = answer_losses(made, [batch])
        loss.backward()
        found.append((loss.item(), {name: w.grad for name, w in made.named_parameters() if w.requires_grad}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for name, grad in found[1][1].items():
        torch.testing.assert_close(found[0][1][name], grad, atol=1e-5, rtol=1e-4)


def test_each_adapter_of_a_stack_answers_for_itself():
    made, prompts = base("llama"), [[2, 7, 9, 11], [2, 7, 8], [2, 7, 5, 30, 12]]
    stack = add_lora(made, TRAINING, 0, 1)
    with torch.no_grad():
        for path, weight in stack.named_parameters():
            if "run1" in path and "lora_B" in path:
                weight.normal_(std=0.5)
    said = {}
    for name in lora.names(2):
        lora.only(stack, name)
        said[name] = decode(stack, prompts, (), 6, 2)
    discard(stack)
    assert said["default"] == decode(made, prompts, (), 6, 2) != said["run1"]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_LINEAR], ids=["q and v", "all linear"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_adapters_answer_in_one_batch_as_each_does_alone(architecture, targets, device):
    """Prompts of several lengths, behind a beginning that the prompts of an adapter share."""
    made = base(architecture, device)
    stack = add_lora(made, replace(TRAINING, targets=targets), 0, 1, 2).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for path, weight in stack.named_parameters():
            if "lora_B" in path:
                weight.normal_(std=0.3)
    lots = {
        name: [[2, *range(10 + place, 15 + place), *range(20, 20 + n)] for n in (1, 7, 3, 12)]
        for place, name in enumerate(lora.names(3))
    }
    alone = {}
    for name, prompts in lots.items():
        lora.only(stack, name)
        alone[name] = decode(stack, prompts, {5}, 8, 3)
    assert len({*map(str, alone.values())}) == 3, "the adapters differ"
    names = [name for name, prompts in lots.items() for _ in prompts]
    for batch_size in (2, 5, 12):
        together = decode(stack, [*chain(*lots.values())], {5}, 8, batch_size, names)
        assert together == [*chain(*alone.values())]
    discard(stack)


def test_dropout_of_the_model_s_own_is_left_to_peft(monkeypatch):
    made = base("llama")
    monkeypatch.setattr(made.config, "attention_dropout", 0.1)
    adapted = add_lora(made, TRAINING, seed=0)
    assert lora.shared(adapted) is None
    discard(adapted)
    with pytest.raises(ValueError, match="cannot be computed for several runs at once"):
        add_lora(made, TRAINING, 0, 1)
    assert not [module for module in made.modules() if isinstance(module, Linear)], "the base model is as it was"


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 97}
OTHERS = {
    "mixtral": {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4},  # experts in one tensor
    "mamba": {"state_size": 8},
}


@pytest.mark.parametrize("name", OTHERS)
def test_layers_that_peft_cannot_adapt_are_named_with_the_way_out(name):
    made = lively_model(AutoConfig.for_model(name, **SMALL, **OTHERS[name]))
    with pytest.raises(ValueError, match=rf"training\.targets: .* of a model of type {name}: .*dropout to 0"):
        add_lora(made, replace(TRAINING, targets=("all-linear",)), seed=0)


def test_as_many_runs_at_once_as_a_device_has_room_for(monkeypatch):
    made = base("llama")
    assert lora.at_once(made, 10) == lora.MOST and lora.at_once(made, 1e9) == 1
    monkeypatch.setattr(made.config, "num_experts", 4, raising=False)
    assert lora.at_once(made, 10) == 1, "experts get tokens in an order of their own"


# stacks of runs with their records


def small():
    settings = {
        "evaluation": Evaluation(restricted=22, benign=22, quiz=4),
        "secret": SecretPrompt(length=8),
        "training": Training(epochs=3, learning_rate=0.003, micro_batch_size=5),
    }
    return replace(profiles.load("tiny"), **settings)


def arms(profile) -> list:
    described = [("none", 0, {}), ("bsa", 0, {}), ("bsa", 1, {}), ("safety-data", 1, {"learning_rate": 0.001})]
    runs = [experiment.describe(profile, arm, n_attack=22, seed=seed, **more) for arm, seed, more in described]
    return [*runs, experiment.describe(profile, "bsa", n_attack=22, seed=0, epochs=2)]


def told(record: dict) -> str:
    return json.dumps({name: record[name] for name in ("label", "metrics", "outcomes", "answers_digest")})


def test_runs_give_the_same_records_stacked_and_one_after_the_other(results, monkeypatch):
    """Also where their answers are decoded together."""
    profile, said, stacks, asked = small(), [], [], []
    real, mixed = engine.together, lora.mixed
    monkeypatch.setattr(engine, "together", lambda model, jobs: stacks.append(len(jobs)) or real(model, jobs))
    monkeypatch.setattr(lora, "mixed", lambda model, names: asked.append(len({*names})) or mixed(model, names))
    for room, mixing in ((1, ()), (3, ()), (3, ("cpu", "cuda"))):
        monkeypatch.setattr(lora, "at_once", lambda *given, room=room: room)
        monkeypatch.setattr("bsa_core.engine.decode.MIXING", mixing)
        monkeypatch.setattr("bsa_core.paths.RESULTS", results / f"{room}{len(mixing)}")
        said.append(experiment.execute(arms(profile), profile))
        assert bool(asked) == bool(mixing)
    assert stacks == [1, 1, 1, 1, 3, 1, 3, 1] and max(asked) == 3
    for alone, *others in zip(*said, strict=True):
        for stacked in others:
            assert told(alone) == told(stacked)
            assert alone["training"]["loss"] == pytest.approx(stacked["training"]["loss"], rel=1e-4)
            assert alone["training"]["tokens"] == stacked["training"]["tokens"]


def test_a_run_that_diverges_takes_no_other_of_its_stack_with_it(results, monkeypatch):
    profile = small()
    monkeypatch.setattr(lora, "at_once", lambda *given: 3)
    wild = experiment.describe(profile, "none", n_attack=22, seed=3, learning_rate=1.0, weight_decay=1.0)
    runs = [*arms(profile)[:2], wild]
    update, calls = engine.update, []

    def broken(model, optimizer, batches, size):
        calls.append(batches)
        if [group for group in optimizer.param_groups if group["lr"] > 0.5]:
            raise engine.Diverged("the loss is nan")
        return update(model, optimizer, batches, size)

    monkeypatch.setattr(engine, "update", broken)
    with pytest.raises(ValueError, match=r"diverged at update 1 .*now 1\)"):
        experiment.execute(runs, profile)
    assert len(calls[0]) == 3, "they were stacked"
    assert len(list(results.rglob("*.json"))) == 2, "the others have their records"
