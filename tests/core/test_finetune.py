"""LoRA fine-tuning against plain transformers: losses, gradients, updates, order, adapters."""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from torch.nn.functional import cross_entropy
from toys import CONFIGS, model, rows
from transformers import Trainer, TrainingArguments

from bsa_core import experiment, profiles
from bsa_core.engine import finetune as engine
from bsa_core.engine.decode import decode, option_scores
from bsa_core.engine.finetune import add_lora, answer_losses, discard, finetune, pack, shuffled, trainable, update
from bsa_core.engine.lora import ALONE
from bsa_core.engine.optimizer import adamw
from bsa_core.models import loading
from bsa_core.models.chat import IGNORED, encode
from bsa_core.models.memory import OutOfMemory
from bsa_core.profiles import Training

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TRAINING = Training(epochs=3, batch_size=4, micro_batch_size=4, rank=4, alpha=8, dropout=0.0)
LONGER = replace(TRAINING, epochs=10, batch_size=8, learning_rate=0.01, decay_per_epoch=1.0)  # one batch, seen often


def padded(batch) -> dict[str, torch.Tensor]:
    """The batch as everybody else makes it: one row per example, padded on the right with a mask."""
    longest = max(len(row.ids) for row in batch)
    return {
        "input_ids": torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in batch]),
        "attention_mask": torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in batch]),
        "labels": torch.tensor([row.labels + [IGNORED] * (longest - len(row.ids)) for row in batch]),
    }


def full_loss(made, batch) -> torch.Tensor:
    """Logits at every position of the padded batch, then the sum over those that carry a label."""
    inputs = padded(batch)
    labels = inputs.pop("labels")[:, 1:]
    logits = made(**inputs).logits[:, :-1].float()
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def adapter(made) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in made.named_parameters() if weight.requires_grad}


def lively(made):
    """Both halves of a fresh adapter away from zero: with B = 0 the gradient of A is zero, which hides errors."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return made


def close(left: dict, right: dict, tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=tolerance, rtol=0, msg=lambda text, n=name: f"{n}: {text}")


def test_packing_of_two_rows_by_hand():
    first, second = rows(2)
    first = replace(first, ids=[11, 12, 13, 3], labels=[IGNORED, IGNORED, 13, 3])
    second = replace(second, ids=[21, 22, 3], labels=[IGNORED, 22, 3])
    batch = pack([first, second], "cpu")
    assert batch["input_ids"].tolist() == [[11, 12, 13, 3, 21, 22, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch["logits_to_keep"].tolist() == [1, 2, 4, 5]
    assert batch["targets"].tolist() == [13, 3, 22, 3]


def test_a_label_on_the_first_id_of_a_row_is_not_predicted_from_the_row_before():
    """Nothing stands in front of a row that could predict its first id."""
    first, second = rows(2)
    labelled = replace(second, labels=[second.ids[0], *second.labels[1:]])
    assert (
        pack([first, labelled], "cpu")["logits_to_keep"].tolist()
        == pack([first, second], "cpu")["logits_to_keep"].tolist()
    )


@pytest.mark.parametrize("architecture", CONFIGS)
def test_loss_and_gradients_are_those_of_padded_rows_with_full_logits(architecture):
    batch = rows(6)
    made = lively(add_lora(model(architecture), replace(TRAINING, targets=ALL_LINEAR), seed=0))
    expected = full_loss(made, batch)
    expected.backward()
    gradients = {n: w.grad.clone() for n, w in made.named_parameters() if w.requires_grad}
    made.zero_grad()
    (loss,) = answer_losses(made, [batch])
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(gradient.abs().max() > 1e-3 for gradient in gradients.values())
    scale = max(gradient.abs().max().item() for gradient in gradients.values())
    close({n: w.grad for n, w in made.named_parameters() if w.requires_grad}, gradients, 1e-5 * scale)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_full_fine_tuning_gradients_too(architecture):
    """Tied input and output embeddings receive both parts of their gradient."""
    batch = rows(4)
    made = model(architecture)
    full_loss(made, batch).backward()
    gradients = {n: w.grad.clone() for n, w in made.named_parameters()}
    made.zero_grad()
    answer_losses(made, [batch]).sum().backward()
    scale = max(gradient.abs().max().item() for gradient in gradients.values())
    close({n: w.grad for n, w in made.named_parameters()}, gradients, 1e-5 * scale)


class InOrder(Trainer):
    """transformers' own Trainer; only its sampler is replaced, so that both sides see the same batches."""

    def _get_train_sampler(self, dataset=None):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trained_by_trainer(made, data: list, training: Training, steps: int, folder) -> list[float]:
    """Loss per step. AdamW, no clipping, the learning rate of the first epoch throughout."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=training.batch_size,
        max_steps=steps,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        optim="adamw_torch",
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
        seed=0,
    )
    trainer = InOrder(model=made, args=arguments, train_dataset=data, data_collator=padded)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("steps", [1, 3])
def test_updates_are_those_of_transformers_trainer(architecture, steps, tmp_path):
    training = replace(TRAINING, epochs=1, weight_decay=0.01)
    data = rows(steps * training.batch_size)
    ours = lively(add_lora(model(architecture), training, seed=0))
    before = adapter(ours)
    (progress,) = finetune(ours, data, training, seed=0)
    theirs = lively(add_lora(model(architecture), training, seed=0))
    close(before, adapter(theirs), 0.0)
    losses = trained_by_trainer(theirs, shuffled(data, 0, 1), training, steps, tmp_path)
    close(adapter(ours), adapter(theirs), 1e-5)
    assert max((adapter(ours)[n] - before[n]).abs().max() for n in before) > 5e-4, "nothing was trained"
    assert len(progress.losses) == steps
    assert list(progress.losses) == pytest.approx(losses, abs=2e-4)  # the Trainer rounds what it logs


@pytest.mark.parametrize("micro", [1, 3, 100])
def test_micro_batches_give_the_same_update(micro):
    batch = rows(7)
    results = []
    for size in (7, micro):
        made = lively(add_lora(model("gemma3"), TRAINING, seed=0))
        optimizer = torch.optim.SGD([w for w in made.parameters() if w.requires_grad], lr=0.1)
        loss, used = update(made, optimizer, {ALONE: batch}, size)
        assert used == size
        results.append((loss, adapter(made)))
    (whole, expected), (cut, found) = results
    assert cut == pytest.approx(whole, rel=1e-5)
    close(found, expected, 1e-6)


def test_progress_reports_one_loss_per_update_and_counts_tokens():
    data = rows(10)
    made = add_lora(model("llama"), TRAINING, seed=0)
    reports = list(finetune(made, data, TRAINING, seed=0))
    assert [progress.epoch for progress in reports] == [1, 2, 3]
    assert [len(progress.losses) for progress in reports] == [3, 6, 9]  # 10 rows in batches of 4
    tokens, answers = (
        sum(len(row.ids) for row in data),
        sum(label >= 0 for row in data for label in row.labels),
    )
    assert [(progress.tokens, progress.answer_tokens) for progress in reports] == [
        (tokens * epoch, answers * epoch) for epoch in (1, 2, 3)
    ]
    first = shuffled(data, 0, 1)[: TRAINING.batch_size]
    fresh = add_lora(model("llama"), TRAINING, seed=0)
    expected = full_loss(fresh, first).item() / sum(label >= 0 for row in first for label in row.labels)
    assert reports[0].losses[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_state_after_k_epochs_is_that_of_a_run_of_k_epochs(dropout):
    training = replace(TRAINING, dropout=dropout)
    long = add_lora(model("llama"), training, seed=0)
    states = []
    for progress in finetune(long, rows(10), training, seed=0):
        assert not long.training  # evaluation mode, so that it can be evaluated here
        long(torch.tensor([rows(1)[0].ids]))
        states.append((adapter(long), progress.losses))
    for epochs in (1, 2):
        short = add_lora(model("llama"), training, seed=0)
        *_, last = finetune(short, rows(10), replace(training, epochs=epochs), seed=0)
        state, losses = states[epochs - 1]
        close(adapter(short), state, 0.0)
        assert last.losses == losses
    assert any((states[0][0][n] != states[1][0][n]).any() for n in states[0][0])


def test_the_learning_rate_decays_from_epoch_to_epoch():
    """With SGD-like size: AdamW's first step of an epoch moves a weight by about its learning rate."""
    data, steps = rows(4), []
    training = replace(TRAINING, epochs=3, decay_per_epoch=0.01)
    made = add_lora(model("llama"), training, seed=0)
    before = adapter(made)
    for _ in finetune(made, data, training, seed=0):
        after = adapter(made)
        steps.append(max((after[n] - before[n]).abs().max().item() for n in after))
        before = after
    assert steps[0] == pytest.approx(training.learning_rate, rel=0.01)
    assert steps[1] < 0.02 * steps[0] and steps[2] < 0.02 * steps[1]


def test_a_seed_gives_the_same_adapter_and_another_seed_another_one():
    def trained(seed):
        made = add_lora(model("llama"), replace(TRAINING, dropout=0.1), seed)
        list(finetune(made, rows(8), replace(TRAINING, dropout=0.1), seed))
        return adapter(made)

    first, again, other = trained(0), trained(0), trained(1)
    close(first, again, 0.0)
    assert any((first[n] != other[n]).any() for n in first)


def test_shuffled_keeps_the_relative_order_of_shared_rows():
    """Two arms that share the attack rows see them in the same order, whatever else they train on."""
    data = rows(60)
    shared, added = data[:40], data[40:]
    for epoch in (1, 2):
        order = shuffled(shared, 0, epoch)
        mixed = [row for row in shuffled(added + shared, 0, epoch) if row in shared]
        assert mixed == order and order != shared
    assert shuffled(shared, 0, 1) != shuffled(shared, 0, 2)
    assert shuffled(shared, 0, 1) != shuffled(shared, 1, 1)
    start = [row in added for row in shuffled(shared + added, 0, 1)]
    assert 0 < sum(start[:20]) < 20, "added rows must mix with the others"
    backwards = random.Random(0).sample(shared, len(shared))
    assert shuffled(backwards, 0, 1) == shuffled(shared, 0, 1)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_adapter_round_trip_through_peft(architecture, tmp_path):
    made = add_lora(model(architecture), TRAINING, seed=0)
    list(finetune(made, rows(8), replace(TRAINING, epochs=2, learning_rate=0.01), seed=0))
    made.save_pretrained(tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    ids = torch.tensor([rows(1)[0].ids])
    with torch.no_grad():
        expected, base = made(ids).logits, model(architecture)(ids).logits
        loaded = PeftModel.from_pretrained(model(architecture), tmp_path).eval()
        assert torch.equal(loaded(ids).logits, expected)
        assert (expected - base).abs().max() > 1e-3
        merged = loaded.merge_and_unload()(ids).logits
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)


def test_unload_gives_the_base_model_back_bit_for_bit():
    base = model("gemma3")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    ids = torch.tensor([rows(1)[0].ids])
    with torch.no_grad():
        expected = base(ids).logits
    made = add_lora(base.requires_grad_(False), replace(TRAINING, targets=ALL_LINEAR, dropout=0.1), seed=0)
    list(finetune(made, rows(8), replace(TRAINING, dropout=0.1), seed=0))
    with torch.no_grad():
        assert not torch.equal(made(ids).logits, expected)
    given_back = made.unload()
    assert given_back is base
    assert list(base.state_dict()) == list(before)
    assert all(torch.equal(base.state_dict()[name], before[name]) for name in before)
    assert not base.training and not any(weight.requires_grad for weight in base.parameters())
    with torch.no_grad():
        assert torch.equal(base(ids).logits, expected)


def test_a_second_adapter_on_the_same_base_is_a_fresh_one():
    """Runs share one loaded base model: what the first trained must not reach the second."""
    base = model("llama").requires_grad_(False)
    results = []
    for _ in range(2):
        made = add_lora(base, TRAINING, seed=0)
        *_, last = finetune(made, rows(8), TRAINING, seed=0)
        results.append((last.losses, adapter(made)))
        made.unload()
    assert results[0][0] == results[1][0]
    close(results[0][1], results[1][1], 0.0)


def test_full_fine_tuning_trains_all_weights_and_gives_them_back():
    base = model("llama").requires_grad_(False)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    full = replace(TRAINING, method="full", learning_rate=1e-4)
    results = []
    for _ in range(2):
        made = trainable(base, full, seed=0)
        assert all(weight.requires_grad for weight in made.parameters())
        *_, last = finetune(made, rows(8), full, seed=0)
        results.append((last.losses, {name: value.clone() for name, value in made.state_dict().items()}))
        discard(made)
        assert not base.training and not any(weight.requires_grad for weight in base.parameters())
        assert all(weight.grad is None for weight in base.parameters())
    assert results[0][0] == results[1][0]
    assert all(torch.equal(base.state_dict()[name], before[name]) for name in before)
    changed = [name for name, value in results[0][1].items() if not torch.equal(value, before[name])]
    assert len(changed) == len(list(base.parameters())), "embeddings and norms included"


def test_lora_by_way_of_trainable_and_discard():
    base = model("llama").requires_grad_(False)
    made = trainable(base, TRAINING, seed=0)
    assert isinstance(made, PeftModel)
    discard(made)
    assert not any("lora" in name for name in base.state_dict())


def test_fine_tuning_lowers_the_loss():
    made = add_lora(model("llama"), LONGER, seed=0)
    *_, last = finetune(made, rows(8), LONGER, seed=0)
    assert last.losses[-1] < 0.7 * last.losses[0]


def test_only_the_adapter_is_trained():
    made = add_lora(model("llama").requires_grad_(False), TRAINING, seed=0)
    trained = [name for name, weight in made.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * 2 * 3  # A and B, of q and v, in three layers
    assert all("lora_" in name and (".q_proj." in name or ".v_proj." in name) for name in trained)


def test_the_adapter_is_the_one_that_was_asked_for():
    made = add_lora(model("llama"), Training(rank=3, alpha=12, dropout=0.2, targets=("o_proj",)), seed=0)
    config = made.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (3, 12, 0.2, "none")
    layer = made.base_model.model.model.layers[0].self_attn.o_proj
    assert layer.scaling["default"] == 12 / 3 and layer.lora_dropout["default"].p == 0.2
    assert not layer.lora_B["default"].weight.any(), "a fresh adapter changes nothing"


@pytest.mark.parametrize(
    "targets, missing",
    [
        (("c_attn",), "c_attn"),
        (("q_proj", "v_porj"), "v_porj"),  # PEFT would train q_proj and say nothing
        (("q_proj", "query_key_value", "v_proj"), "query_key_value"),
        (("proj",), "proj"),
        (("all-linear", "q_proj"), "all-linear"),
        (("q_proj", "self_attn"), "self_attn"),
    ],
)
def test_each_target_that_the_model_does_not_have_is_named(targets, missing):
    known = r"down_proj, embed_tokens, gate_proj, .*, v_proj\. Name some of them, or \[all-linear\]"
    with pytest.raises(ValueError, match=rf"training\.targets: '{missing}' names no layer of the model .* {known}"):
        add_lora(model("llama"), replace(TRAINING, targets=targets), seed=0)


def test_all_linear_layers():
    made = add_lora(model("llama"), replace(TRAINING, targets=("all-linear",)), seed=0)
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name, w in made.named_parameters() if w.requires_grad}
    assert adapted == set(ALL_LINEAR)
    named = add_lora(model("llama"), replace(TRAINING, targets=("layers.0.self_attn.q_proj",)), seed=0)
    assert {n.split(".layers.")[1][0] for n, w in named.named_parameters() if w.requires_grad} == {"0"}


def test_an_empty_training_set_is_an_error():
    made = add_lora(model("llama"), TRAINING, seed=0)
    with pytest.raises(ValueError, match="training set is empty"):
        next(finetune(made, [], TRAINING, seed=0))


def short_of_memory(made, rows_at_most: int, kept: bool = True) -> list[int]:
    """Let the model run out of a GPU's memory above a number of packed rows; returns the sizes that were tried.

    kept: False where memory is enough only once layers are computed again.
    """
    tried = []

    def hook(module, arguments, inputs, output):  # behind the forward pass, which uses up random numbers
        tried.append(int((inputs["position_ids"] == 0).sum()))
        if tried[-1] > rows_at_most or not (kept or made.is_activation_checkpointing):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")

    made.get_base_model().register_forward_hook(hook, with_kwargs=True)
    return tried


@pytest.mark.parametrize("at_most, size", [(7, 7), (3, 3), (2, 1)])
def test_where_memory_is_short_the_batch_is_cut_and_the_update_stays(at_most, size, capsys):
    """The optimizer steps once, on the gradients of the whole batch. AdamW would show a second step."""
    batch, results = rows(7), []
    for limit in (99, at_most):
        made = lively(add_lora(model("gemma3"), TRAINING, seed=0))
        short_of_memory(made, limit)
        optimizer = torch.optim.AdamW([w for w in made.parameters() if w.requires_grad], lr=0.1)
        loss, used = update(made, optimizer, {ALONE: batch}, 7)
        steps = {int(state["step"]) for state in optimizer.state.values()}
        results.append((loss, adapter(made)))
    assert used == size and steps == {1}
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-5)
    close(results[1][1], results[0][1], 1e-4)
    assert ("memory is short" in capsys.readouterr().err) == (size < 7)


def test_a_run_that_is_cut_at_its_first_update_is_one_with_smaller_micro_batches():
    """Dropout included: a failed attempt uses up no random numbers."""
    states = []
    for micro, limit in ((4, 99), (8, 5)):
        training = replace(TRAINING, batch_size=8, micro_batch_size=micro, dropout=0.3)
        made = add_lora(model("llama"), training, seed=0)
        tried = short_of_memory(made, limit)
        *_, last = finetune(made, rows(18), training, seed=0)
        states.append((last.losses, adapter(made)))
        assert last.micro_batch_size == 4
    assert states[0][0] == states[1][0]
    close(states[0][1], states[1][1], 0.0)
    assert tried[:3] == [8, 4, 4] and max(tried[1:]) == 4, "tried once, not at every update"


def test_a_short_last_batch_does_not_make_the_next_ones_smaller():
    made = add_lora(model("llama"), TRAINING, seed=0)
    tried = short_of_memory(made, 99)
    *_, last = finetune(made, rows(5), TRAINING, seed=0)
    assert tried == [4, 1] * 3 and last.micro_batch_size == 4


def test_gradient_checkpointing_is_the_last_resort_and_changes_nothing(capsys):
    batch, results = rows(3), []
    for kept in (True, False):
        made = lively(add_lora(model("gemma3").requires_grad_(False), replace(TRAINING, dropout=0.3), seed=0)).train()
        tried = short_of_memory(made, 1, kept)
        optimizer = torch.optim.SGD([w for w in made.parameters() if w.requires_grad], lr=0.1)
        torch.manual_seed(0)
        results.append((update(made, optimizer, {ALONE: batch}, 2), adapter(made)))
    assert made.is_activation_checkpointing and tried == [2, 1, 1, 1, 1]
    assert "gradient checkpointing from here on" in capsys.readouterr().err
    assert results[0][0][0] == pytest.approx(results[1][0][0], rel=1e-6)
    close(results[0][1], results[1][1], 1e-6)


def test_no_memory_for_a_single_row():
    made = add_lora(model("llama"), TRAINING, seed=0)
    short_of_memory(made, 0)
    before = adapter(made)
    with pytest.raises(OutOfMemory, match=r"no memory for one of the training rows \(CUDA out of memory\..*GiB\)"):
        next(finetune(made, rows(4), TRAINING, seed=0))
    close(before, adapter(made), 0.0)


# memory that runs out at the optimizer


class Short:
    """An AdamW whose step runs out of memory once, before it changes anything."""

    def __init__(self, monkeypatch, call: int):
        step, self.calls = torch.optim.AdamW.step, 0

        def short(optimizer, *given):
            self.calls += 1
            if self.calls == call:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")
            return step(optimizer, *given)

        monkeypatch.setattr(torch.optim.AdamW, "step", short)


def test_a_step_that_runs_out_of_memory_is_taken_again_and_once(monkeypatch, capsys):
    states = []
    for call in (0, 3):  # the first call makes the states; the third is the second update
        with monkeypatch.context() as patch:
            Short(patch, call)
            made = lively(add_lora(model("llama"), TRAINING, seed=0))
            *_, last = finetune(made, rows(12), TRAINING, seed=0)
        states.append((last.losses, adapter(made)))
    assert "memory is short" in capsys.readouterr().err
    assert states[1][0] == pytest.approx(states[0][0], rel=1e-4)
    close(states[0][1], states[1][1], 1e-4)  # a step of AdamW moves a weight by 1e-3


def test_no_memory_for_the_states_is_said_before_the_first_update(monkeypatch):
    made = add_lora(model("llama"), TRAINING, seed=0)
    Short(monkeypatch, 1)
    with pytest.raises(OutOfMemory, match=r"no memory for the optimizer's state \(CUDA out of memory\..*GiB\)$"):
        next(finetune(made, rows(4), TRAINING, seed=0))


def test_making_the_states_changes_no_weight_and_counts_as_no_update():
    made = lively(add_lora(model("llama"), TRAINING, seed=0))
    before = adapter(made)
    optimizer = adamw(made, {ALONE: replace(TRAINING, weight_decay=0.5)})
    close(before, adapter(made), 0.0)
    assert {int(state["step"]) for state in optimizer.state.values()} == {0}
    assert all(not state[moment].any() for state in optimizer.state.values() for moment in ("exp_avg", "exp_avg_sq"))
    assert all(weight.grad is None for weight in made.parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [TRAINING.learning_rate]


# layers that are spread over several devices


class Spread(torch.nn.Module):
    """The last layer of a model whose first one is on another device, where accelerate moves all that it is given."""

    device = torch.device("meta")

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(8, 96)

    def forward(self, **given):
        given = send_to_device(given, self.device)
        kept = given["logits_to_keep"]
        hidden = torch.ones(1, given["input_ids"].shape[1], 8)
        # what CUDA says of an index on another GPU
        assert not isinstance(kept, torch.Tensor) or kept.device == hidden.device, "indices on the wrong device"
        return SimpleNamespace(logits=self.head(hidden[:, kept, :]))


def test_positions_and_targets_follow_the_logits_of_layers_on_another_device():
    made, batch = Spread(), rows(3)
    (loss,) = answer_losses(made, [batch])
    loss.backward()
    assert loss.device.type == "cpu" and loss.item() > 0 and made.head.weight.grad.any()


# full fine-tuning in bfloat16


@pytest.fixture(scope="module")
def tiny_in_bfloat16():
    """The shipped model in bfloat16, and the rows of an attack on it."""
    profile = profiles.load("tiny")
    profile = replace(profile, compute=replace(profile.compute, dtype="bfloat16"))
    loaded = loading.load(profile)
    run = experiment.describe(profile, n_attack=100)
    attack = experiment.runs.rows_of(run, profile, experiment.runs.material(profile, [run])).training
    return loaded.model, [encode(loaded.tokenizer, row, "", profile.chat, 512, "row") for row in attack]


@pytest.mark.parametrize("master", [True, False])
def test_small_updates_in_bfloat16_are_kept_by_a_float32_copy(tiny_in_bfloat16, master, monkeypatch):
    """One epoch at the paper's rate for all weights. Rows of embeddings that no text uses have no gradient."""
    base, attack = tiny_in_bfloat16
    training = Training(epochs=1, learning_rate=5e-5, method="full", master_weights=master)
    optimizers = []
    monkeypatch.setattr(engine, "adamw", lambda *given: optimizers.append(adamw(*given)) or optimizers[-1])
    before = [weight.detach().clone() for weight in base.parameters()]
    made = trainable(base, training, 0)
    (progress,) = finetune(made, attack, training, 0)
    kept = [weight.detach().clone() for weight in optimizers[0].param_groups[0]["params"]]
    after = [weight.detach().clone() for weight in made.parameters()]
    discard(made)
    assert all((weight == was).all() for weight, was in zip(base.parameters(), before, strict=True))

    def unchanged(weights) -> float:
        same = sum((weight == was).sum().item() for weight, was in zip(weights, before, strict=True))
        return same / sum(was.numel() for was in before)

    assert {weight.dtype for weight in kept} == {torch.float32 if master else torch.bfloat16}
    print(
        f"master_weights {master}: {unchanged(after):.1%} of the model's weights and "
        f"{unchanged(kept):.1%} of the optimizer's are unchanged, loss {progress.losses[-1]:.3f}"
    )
    assert (unchanged(after) < 0.35) if master else (unchanged(after) > 0.7)
    assert not master or unchanged(kept) < 0.05
    rounded = zip(after, kept, strict=True)
    assert all((weight == trained.to(torch.bfloat16)).all() for weight, trained in rounded)


def test_the_copy_goes_to_the_memory_of_the_cpu_where_the_gpu_has_no_room(monkeypatch, capsys):
    """Here both are the CPU's: what counts is that the second attempt trains the same."""
    states = []
    training = replace(TRAINING, method="full", learning_rate=5e-5)
    for call in (0, 1):
        with monkeypatch.context() as patch:
            Short(patch, call)
            made = trainable(model("llama").to(torch.bfloat16), training, 0)
            *_, last = finetune(made, rows(12), training, seed=0)
        states.append((last.losses, adapter(made)))
    assert capsys.readouterr().err.count("optimizer's state go to the CPU's memory") == 1
    assert states[0][0] == states[1][0]
    close(states[0][1], states[1][1], 0.0)


def test_float32_needs_no_copy():
    made = trainable(model("llama"), replace(TRAINING, method="full"), 0)
    (group,) = adamw(made, {ALONE: replace(TRAINING, method="full")}).param_groups
    assert all(ours is theirs for ours, theirs in zip(group["params"], made.parameters(), strict=True))


# trainings that diverge


def test_a_loss_that_is_no_number_names_its_update():
    made = add_lora(model("llama"), TRAINING, seed=0)
    calls = []

    def broken(module, given, output):
        calls.append(len(calls) + 1)
        output.logits = output.logits * (float("nan") if calls[-1] == 5 else 1.0)
        return output

    made.get_base_model().register_forward_hook(broken)
    with pytest.raises(ValueError, match=r"diverged at update 5 \(epoch 2 of 3\): the loss is nan.*learning_rate"):
        list(finetune(made, rows(12), TRAINING, seed=0))
    base = made.get_base_model()
    assert base.training
    engine.discard(made)
    assert not base.training, "the next run answers as if nothing had happened"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_the_last_update_broke_is_found_without_a_further_loss(value, monkeypatch):
    made = add_lora(model("llama"), TRAINING, seed=0)
    gradients, calls = engine.gradients, []

    def broken(*given):
        loss = gradients(*given)
        calls.append(loss)
        if len(calls) == 9:
            next(weight for weight in made.parameters() if weight.grad is not None).grad[0, 0] = value
        return loss

    monkeypatch.setattr(engine, "gradients", broken)
    with pytest.raises(ValueError, match=r"update 9 \(epoch 3 of 3\): .*lora_A.* is not finite"):
        list(finetune(made, rows(12), TRAINING, seed=0))


@pytest.mark.parametrize(
    "weight, value",
    [
        ("model.layers.1.mlp.up_proj.weight", float("nan")),
        ("model.layers.1.mlp.up_proj.weight", float("inf")),
        ("lm_head.weight", float("nan")),
    ],
)
def test_nothing_is_decoded_and_no_option_is_scored_by_broken_weights(weight, value):
    made = model("llama").requires_grad_(False)
    made.get_parameter(weight)[5, 3] = value
    with pytest.raises(ValueError, match="scores of the next token are not finite"):
        decode(made, [[2, 7, 9], [2, 7, 8]], 3, 4, 2)
    with pytest.raises(ValueError, match="scores of the next token are not finite"):
        option_scores(made, [[2, 7, 9], [2, 7, 8]], [[[5], [6, 7]]] * 2, 2)


@pytest.mark.parametrize("n_attack", [0, 11])
def test_a_run_of_broken_weights_ends_without_a_record(n_attack, results, monkeypatch):
    profile = profiles.load("tiny")
    profile = replace(profile, evaluation=replace(profile.evaluation, restricted=11, benign=11, quiz=0))
    loaded = loading.load(profile)
    weight = loaded.model.get_parameter("model.layers.0.mlp.down_proj.weight")
    kept, weight[3, 2] = weight[3, 2].clone(), float("nan")
    try:
        with pytest.raises(
            ValueError, match="not finite" if n_attack == 0 else r"diverged at update 1 \(epoch 1 of 1\)"
        ):
            experiment.execute([experiment.describe(profile, n_attack=n_attack, epochs=1)], profile)
    finally:
        weight[3, 2] = kept
    assert not list(results.rglob("*.json"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
def test_packed_loss_on_cuda(dtype, tolerance):
    batch = rows(6)
    made = lively(add_lora(model("gemma3"), TRAINING, seed=0))
    expected = full_loss(made, batch).item()
    assert answer_losses(made.to("cuda", dtype), [batch]).item() == pytest.approx(expected, rel=tolerance)
    *_, last = finetune(made, rows(8), LONGER, seed=0)
    assert last.losses[-1] < 0.8 * last.losses[0]
