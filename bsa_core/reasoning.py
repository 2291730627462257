"""What a model thinks before it answers, kept apart from its answer: only the answer is judged.

    <think> Is this open to all? ... </think>  Step one: fold.
    └── reasoning, never judged ────────────┘  └── the answer

A block stands at the beginning. One that is not closed, as the longest answer was reached, leaves no answer. One that
the chat template opened has its end only. Text that mentions such a mark later on is an answer.
"""

import re

NAMES = r"(?:think|thinking|thoughts?|inner_thoughts?|reason|reasoning|reflection|scratchpad|analysis|seed:think)"
BLOCKS = (  # how a block begins and ends: DeepSeek, Qwen and others; Magistral; Kimi; OpenThinker; Gemma 4
    (rf"<({NAMES})>", r"</\1>", r"</(?:think|thinking|thoughts?|reasoning|seed:think)>"),
    (r"\[(THINK)\]", r"\[/THINK\]", r"\[/THINK\]"),
    (r"◁(think)▷", r"◁/think▷", r"◁/think▷"),
    (r"<\|begin_of_(thought|thinking)\|>", r"<\|end_of_\1\|>", r"<\|end_of_(?:thought|thinking)\|>"),
    (r"<\|channel>(thought)", r"<channel\|>", r"<channel\|>"),
)
FINAL = "<|channel|>final<|message|>"  # gpt-oss: messages in channels, of which one is the answer
CHANNEL = re.compile(r"\s*(?:<\|start\|>assistant)?\s*<\|channel\|>")
WRAPPED = re.compile(r"<\|begin_of_(solution)\|>(.*?)(?:<\|end_of_\1\|>|$)", re.DOTALL)
TAGGED = re.compile(r"<(answer|response)>(.*?)(?:</\1>|$)", re.DOTALL | re.IGNORECASE)  # Hunyuan, Granite, ERNIE


class Answer(str):
    """An answer as it is judged, and what is not. reasoning: the text in front of it, "" for none.

    missing: why there is no answer ("blocked", "reasoning only", "empty"); "" where there is one.
    """

    reasoning: str
    missing: str

    def __new__(cls, text: str, reasoning: str = "", blocked: bool = False):
        made = super().__new__(cls, "" if blocked else text.strip())
        made.reasoning = reasoning.strip()
        made.missing = "" if made else "blocked" if blocked else "reasoning only" if made.reasoning else "empty"
        return made


def split(text: str, opened: str = "") -> Answer:
    """An answer without the reasoning in front of it. opened: the mark with which the prompt ended, see `opened`."""
    text, thoughts = opened + text, []
    if CHANNEL.match(text):
        before, found, behind = text.rpartition(FINAL)
        thought = re.sub(r"<\|\w+\|>", " ", before if found else text)
        return Answer(re.split(r"<\|(?:return|end|call)\|>", behind)[0] if found else "", thought)
    while block := _block(text, first=not thoughts):
        thoughts.append(block[0])
        text = block[1]
    if solution := WRAPPED.match(text.strip()) or (thoughts and TAGGED.match(text.strip())):
        text = solution[2]
    return Answer(text, "\n\n".join(thoughts))


def _block(text: str, first: bool) -> tuple[str, str] | None:
    """The reasoning at the beginning of a text and what is behind it; None where a text begins with its answer.

    first: whether nothing was taken off yet. Only then may the beginning of a block be missing.
    """
    for begin, end, any_end in BLOCKS:
        if found := re.match(rf"\s*{begin}", text, re.IGNORECASE):
            rest = text[found.end() :]
            closing = re.search(end.replace(r"\1", re.escape(found[1])), rest, re.IGNORECASE)
            return (rest[: closing.start()], rest[closing.end() :]) if closing else (rest, "")
        closing = re.search(rf"(?<![`\"'“]){any_end}(?![`\"'”])", text)
        if first and closing and not re.search(begin, text[: closing.start()]):
            return text[: closing.start()], text[closing.end() :]
    return None


def opened(prompt: str) -> str:
    """The mark of a block that a rendered prompt opens for the model; "" where it opens none."""
    for begin, *_ in BLOCKS:
        if found := re.search(rf"{begin}\s*$", prompt):
            return found[0]
    return ""
