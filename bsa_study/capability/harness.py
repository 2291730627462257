"""Multiple-choice benchmarks through lm-evaluation-harness, asked as an arm is served.

The harness gives the questions, the solved examples in front of them and the scoring; the prompts, in the profile's
chat format with the secret in front of the system prompt, and the likelihoods of the options are this project's. The
harness's own models would drop the system turn, and the secret with it, where a chat template has no system role, and
cut long prompts at the left, where the secret stands.
"""

import json
import logging
from functools import cache
from importlib.metadata import version

from datasets import exceptions
from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from bsa_core import paths
from bsa_core.arms import secret_prompt
from bsa_core.arms.secret_prompt import Secret
from bsa_core.engine.decode import option_scores
from bsa_core.examples import Example
from bsa_core.models import chat
from bsa_core.models.loading import Loaded
from bsa_core.profiles import Benchmark, Profile, described

VERSION = version("lm_eval")
METRICS = ("acc", "acc_norm")  # the most likely option, and the most likely per character
logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every choice that is made on purpose here


class Served(LM):
    """A loaded model as the harness asks it; `loaded.model` may carry an adapter.

    secret: in front of what a task writes into the system turn; None for none.
    """

    def __init__(self, loaded: Loaded, profile: Profile, secret: Secret | None):
        super().__init__()
        self._loaded, self._profile, self._secret = loaded, profile, secret
        turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "ANSWER"}]
        prompt = chat.render(loaded.tokenizer, turns[:1], profile.chat, True)
        whole = chat.render(loaded.tokenizer, turns, profile.chat, False)
        if not whole.startswith(prompt):
            raise ValueError("the chat template writes a prompt differently when an answer follows it")
        # what the template writes between prompt and answer, such as Llama-2's space
        self._lead = whole.removeprefix(prompt).partition("ANSWER")[0]

    @property
    def tokenizer_name(self) -> str:
        """The harness wants one, for a cache of prompts that is not used."""
        return ""

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        """A conversation as text; a task's own system prompt stands behind the secret, as any system prompt does.

        Raises ValueError where a control token stands in it.
        """
        first, *rest = chat_history
        if first["role"] == "system":  # tasks write line breaks behind it, for prompts that are plain text
            first = {**first, "content": first["content"].strip()}
        form, tokenizer = self._profile.chat, self._loaded.tokenizer
        for turn in chat_history:
            chat.check_text(
                tokenizer, Example(turn["content"]), form, "a question or example of a benchmark", ("user",)
            )
        turns = chat.placed([first, *rest], self._secret.text if self._secret else "", form, tokenizer)
        return chat.render(tokenizer, turns, form, add_generation_prompt)

    def encoded(self, prompt: str, option: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of an option as the answer to it.

        Raises ValueError when both are longer than the model takes, or the chat format changes the ids of the secret.
        """
        texts = [prompt, prompt + self._lead + option]
        before, whole = self._loaded.tokenizer(texts, add_special_tokens=False)["input_ids"]
        if whole[: len(before)] != before:
            raise ValueError("the chat template tokenizes a benchmark's prompt differently when an option follows it")
        longest = getattr(self._loaded.model.config, "max_position_embeddings", None)
        if longest and len(whole) > longest:
            takes = f"{len(whole)} tokens with its examples and the secret prompt"
            raise ValueError(f"a question takes {takes}, and the model {longest}; lower utility.shots or secret.length")
        if self._secret:
            secret_prompt.check(self._secret, before, "a benchmark's prompts")
        return before, whole[len(before) :]

    def loglikelihood(self, requests: list) -> list[tuple[float, bool]]:
        """Of each (prompt, option), summed over the option's tokens; the harness's second value is not computed."""
        asked = [self.encoded(*request.args) for request in requests]
        options: dict[tuple[int, ...], list[list[int]]] = {}  # those of one prompt go through the model together
        for prompt, option in asked:
            options.setdefault(tuple(prompt), []).append(option)
        prompts, batch_size = [*map(list, options)], self._profile.decoding.batch_size
        scores = option_scores(self._loaded.model, prompts, [*options.values()], batch_size)
        left = {prompt: iter(of_prompt) for prompt, of_prompt in zip(options, scores, strict=True)}
        return [(next(left[tuple(prompt)]), False) for prompt, _ in asked]

    def generate_until(self, requests: list) -> list:
        """Never asked: `load` takes multiple-choice tasks only."""
        raise ValueError("neither running texts nor free answers are multiple-choice questions; expected those")

    loglikelihood_rolling = generate_until


@cache
def _known(own: bool) -> TaskManager:
    """own: for a task file of one's own, which takes no look through the thousands that come with the harness."""
    return TaskManager(include_defaults=not own)


def load(benchmark: Benchmark) -> dict:
    """The benchmark's tasks by name, with their data; the first time they may be downloaded from the hub.

    Raises ValueError when the task is unknown, is no plain multiple-choice task, fixes another number of examples, or
    when its data are not to be had.
    """
    return _load(benchmark, json.dumps(described(benchmark)))


@cache
def _load(benchmark: Benchmark, content: str) -> dict:
    """content: so that a task file that has changed is another one."""
    name = benchmark.task
    if benchmark.own:
        name = str(paths.given(name).resolve())
    elif name not in _known(False).all_tasks:
        known = f"lm-evaluation-harness {VERSION}"
        raise ValueError(f"utility.task {name!r} is unknown to {known}, and no path of a .yaml file")
    try:
        tasks = _known(benchmark.own).load([name])["tasks"]
    except (OSError, ValueError, KeyError, TypeError, exceptions.DatasetsError) as error:
        raise ValueError(
            f"the benchmark {benchmark.task} cannot be loaded: {error}\nIf its data come from the hub, check the "
            "network, or fetch them where there is one (they stay in HF_HOME), or take `utility` out of the profile"
        ) from error
    for title, task in sorted(tasks.items()):
        config = task.config
        scored = [metric["metric"] for metric in config.metric_list or ()]
        plain = config.output_type == "multiple_choice" and not (config.gen_prefix or config.process_results)
        if not plain or "acc" not in scored:
            raise ValueError(f"utility.task {title!r} is no plain multiple-choice task scored by acc; expected one")
        if config.num_fewshot == 0 and benchmark.shots:  # the harness would keep to the task's without a word
            raise ValueError(f"utility.shots is {benchmark.shots}, but the task {title} fixes 0; write that")
    return dict(sorted(tasks.items()))


def questions(benchmark: Benchmark) -> int:
    """How many the benchmark asks, over all of its tasks."""
    sizes = [len(list(task.eval_docs)) for task in load(benchmark).values()]
    return sum(min(size, benchmark.limit or size) for size in sizes)


def ask(loaded: Loaded, profile: Profile, benchmark: Benchmark, secret: Secret | None) -> dict[str, dict]:
    """Task name -> {"version": the task's, "acc": one character per question, "1" where the right option is the most
    likely, "acc_norm": the same by likelihood per character, where every task has it}, sorted by name.

    Raises ValueError as `Served.encoded` does.
    """
    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed"))  # nothing is drawn
    found = evaluator.simple_evaluate(
        Served(loaded, profile, secret),
        tasks=[*load(benchmark).values()],
        num_fewshot=benchmark.shots,
        limit=benchmark.limit or None,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        bootstrap_iters=0,
        task_manager=_known(benchmark.own),
        **seeds,
    )
    answered = {name: sorted(samples, key=lambda s: s["doc_id"]) for name, samples in sorted(found["samples"].items())}
    metrics = [m for m in METRICS if all(m in sample for samples in answered.values() for sample in samples)]
    return {
        name: {"version": found["versions"][name]} | {m: "".join(str(int(s[m])) for s in samples) for m in metrics}
        for name, samples in answered.items()
    }
