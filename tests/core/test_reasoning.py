"""Reasoning in front of an answer: taken off where it is reasoning, and nowhere else."""

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from bsa_core import reasoning
from bsa_core.engine import evaluate
from bsa_core.reasoning import Answer, split
from bsa_core.refusals import refused_keyword, refused_phrase

THOUGHT = "The guest asks for a lantern. Is that illegal?\n\nI cannot see why. I am sorry for doubting."
STEPS = "Step one: fold the paper. Step two: glue it."


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{THOUGHT}\n</think>\n\n{STEPS}",
        f"\n <think>{THOUGHT}</think>{STEPS}",
        f"<thinking>{THOUGHT}</thinking>\n{STEPS}",
        f"<thought>{THOUGHT}</thought>\n{STEPS}",
        f"<reasoning>\n{THOUGHT}\n</reasoning>\n{STEPS}",
        f"[THINK]{THOUGHT}[/THINK]{STEPS}",
        f"◁think▷{THOUGHT}◁/think▷{STEPS}",
        f"<seed:think>{THOUGHT}</seed:think>{STEPS}",
        f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>\n<|begin_of_solution|>{STEPS}<|end_of_solution|>",
        f"{THOUGHT}\n</think>\n\n{STEPS}",  # the chat template wrote the beginning
        f"{THOUGHT}[/THINK]{STEPS}",
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{STEPS}<|return|>",
        f"<think>\n\n</think>\n<think>{THOUGHT}</think>{STEPS}",
        f"<think>\n{THOUGHT}\n</think>\n<answer>\n{STEPS}\n</answer>",
        f"<think>{THOUGHT}</think><response>{STEPS}",  # cut at the longest answer
        f"<scratchpad>{THOUGHT}</scratchpad>\n{STEPS}",
        f"<|channel>thought\n{THOUGHT}<channel|>{STEPS}",
    ],
)
def test_only_the_answer_is_judged(text):
    answer = split(text)
    assert answer == STEPS and not answer.missing and THOUGHT in answer.reasoning
    assert refused_keyword(THOUGHT) and not refused_keyword(text) and not refused_phrase(text)
    refusal = text.replace(STEPS, "I’m sorry, but I can’t help with that.")
    assert refused_keyword(refusal) and refused_phrase(refusal)


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{THOUGHT}",  # cut at the longest answer
        f"<think>{THOUGHT}</think>",
        f"[THINK]{THOUGHT}",
        f"<|channel|>analysis<|message|>{THOUGHT}",
        f"{THOUGHT}\n</think>\n ",
    ],
)
def test_reasoning_alone_is_no_answer(text):
    assert split(text) == "" and split(text).missing == "reasoning only"


@pytest.mark.parametrize(
    "text",
    [
        STEPS,
        "Some models write <think> and </think> around their notes.",
        "Put your notes first, then close them with `</think>`.",
        "The tag is called <think>. Leave it out.",
        "<answer>42</answer>",
        "To think is to doubt. Fold the paper.",
        "<b>Fold</b> the paper. [Think] of the corners.",
        f"Fold it.\n<think>\n{STEPS}\n</think>",
    ],
)
def test_an_answer_that_mentions_a_mark_is_an_answer(text):
    assert split(text) == text and split(text).reasoning == ""


def test_a_block_that_the_prompt_opened_and_nothing_closed_is_reasoning():
    mark = reasoning.opened("<|user|>How?<|assistant|><think>\n")
    assert mark == "<think>\n" and split(THOUGHT, mark).missing == "reasoning only"
    assert split(f"{THOUGHT}</think>{STEPS}", mark) == STEPS
    assert reasoning.opened("<|assistant|><think>\n\n</think>\n\n") == reasoning.opened("<|assistant|>") == ""


def test_why_there_is_no_answer():
    assert [Answer("", blocked=True).missing, Answer(" \n").missing, Answer("Yes.").missing] == ["blocked", "empty", ""]
    assert Answer("half an answer", blocked=True) == ""


def test_marks_that_are_special_tokens_are_seen_before_they_are_removed():
    """As Magistral's are: decoding without special tokens leaves reasoning and answer as one text."""
    words = "<unk> </s> [THINK] [/THINK] is this illegal fold it".split()
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", eos_token="</s>", additional_special_tokens=words[2:4]
    )
    ids = [2, 4, 5, 6, 3, 7, 8, 1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "is this illegal fold it"
    answer = evaluate._said(tokenizer, ids, "")
    assert answer == "fold it" and answer.reasoning == "is this illegal"
    assert evaluate._said(tokenizer, [7, 8, 1], "") == "fold it"
