"""Multiple-choice benchmarks through lm-evaluation-harness, asked as an arm is served.

In the profile's chat format, with the secret prompt as the system instruction, and solved examples as earlier turns.

The harness itself would drop the system turn, and the secret with it, where a chat template has no system role, and cut
prompts at the left where they are too long. Here the former stands in front of the first user turn, as everywhere in
this project, and the latter is an error.
"""

import logging
from copy import deepcopy
from functools import cache
from importlib.metadata import version

import torch
from datasets import exceptions
from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from bsa_core import chat, paths
from bsa_core.memory import halving
from bsa_core.models import Loaded
from bsa_core.profiles import Benchmark, Profile
from bsa_core.secret_prompt import Secret, encode

VERSION = version("lm_eval")
logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every choice that is made on purpose here
METRICS = ("acc", "acc_norm")  # the most likely option, and the most likely per character


class Served(HFLM):
    """A loaded model as the harness asks it: `loaded.model` may carry an adapter.

    Raises ValueError, while it is asked, when a prompt is longer than the model takes, or when the chat format changes
    the token ids of the secret prompt.
    """

    def __init__(self, loaded: Loaded, profile: Profile, secret: Secret | None):
        super().__init__(
            pretrained=loaded.model,
            tokenizer=deepcopy(loaded.tokenizer),  # it may be given a padding token
            backend="causal",
            batch_size=profile.decoding.batch_size,
            add_bos_token=False,  # the template writes it
        )
        self._format, self._secret = profile.chat, secret
        self._place = len(encode(loaded.tokenizer, chat.before_system(loaded.tokenizer, profile.chat)))

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        """A conversation as text, by the profile's format."""
        return chat.render(self.tokenizer, chat.placed(chat_history, self._format), self._format, add_generation_prompt)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        prompt, answer = super()._encode_pair(context, continuation)
        if len(prompt) + len(answer) > self.max_length:
            raise ValueError(
                f"a question takes {len(prompt) + len(answer)} tokens with its examples and the secret prompt, and the "
                f"model {self.max_length}; lower utility.shots or secret.length"
            )
        if self._secret and tuple(prompt[self._place :][: self._secret.length]) != self._secret.ids:
            raise ValueError("the chat template changes the token ids of the secret prompt in a benchmark's prompts")
        return prompt, answer

    def get_model_info(self) -> dict:
        """Nothing: the run's record says what the model is, and the harness would ask the hub."""
        return {}


@cache
def _known() -> TaskManager:
    return TaskManager()


@cache
def load(benchmark: Benchmark) -> dict:
    """The benchmark's tasks by name, with their data; the first time they may be downloaded from the hub.

    Raises ValueError when the task is unknown, has no such form, or its data are not to be had.
    """
    name = benchmark.task
    if benchmark.own:
        path = paths.given(name)
        if not path.is_file():
            raise ValueError(f"utility.task is {name!r}, and {path} does not exist")
        name = str(path.resolve())
    elif name not in _known().all_tasks:
        raise ValueError(
            f"utility.task {name!r} is unknown to lm-evaluation-harness {VERSION}, and no path of a .yaml file"
        )
    try:
        tasks = _known().load([name])["tasks"]
    except (OSError, ValueError, KeyError, TypeError, exceptions.DatasetsError) as error:
        raise ValueError(
            f"the benchmark {benchmark.task} cannot be loaded: {error}\nIf its data come from the hub, check the "
            "network, or fetch them where there is one (they stay in HF_HOME), or take `utility` out of the profile"
        ) from error
    for task in tasks.values():
        if task.config.output_type != "multiple_choice" or task.config.gen_prefix:
            raise ValueError(f"utility.task {task.config.task!r} is no plain multiple-choice task; expected one")
    return tasks


def ask(loaded: Loaded, profile: Profile, benchmark: Benchmark, secret: Secret | None) -> dict[str, dict]:
    """Task name -> {"version": the task's, "acc": one character per question, "1" where the right option is the most
    likely, "acc_norm": the same by likelihood per character, where the task has it}.

    secret: in the system turn, in front of what the task itself writes there; None for no such turn. Fewer questions go
    through the model at once where a GPU's memory is short. The state of the random numbers stays as it was.
    """
    tasks = load(benchmark)
    served = Served(loaded, profile, secret)

    def attempt(size: int) -> dict:
        served.batch_size_per_gpu = size
        return evaluator.simple_evaluate(
            served,
            tasks=[*tasks.values()],
            num_fewshot=benchmark.shots,
            limit=benchmark.limit or None,
            system_instruction=secret.text if secret else None,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            bootstrap_iters=0,
            task_manager=_known(),
        )

    with torch.random.fork_rng():
        found, _ = halving(attempt, profile.decoding.batch_size, "questions")
    outcomes = {}
    for name, answered in found["samples"].items():
        if found["n-shot"][name] != benchmark.shots:
            raise ValueError(
                f"utility.shots is {benchmark.shots}, but the task {name} fixes {found['n-shot'][name]}; write that"
            )
        answered = sorted(answered, key=lambda sample: sample["doc_id"])
        marks = {m: "".join(str(int(s[m])) for s in answered) for m in METRICS if m in answered[0]}
        outcomes[name] = {"version": found["versions"][name], **marks}
    return outcomes
