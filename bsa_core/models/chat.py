"""From an example to token ids and a label mask, by the tokenizer's own chat template.

    <system: secret prompt + " " + system prompt> <user: request> <assistant: answer + end token>
                                                                              └── labels: these only ──┘

The secret prompt stands in front of the system prompt, separated by one space (paper, section 3.2). Where a template
has no system role, both stand in front of the first user turn.
"""

import re
from dataclasses import dataclass
from datetime import date

from jinja2 import TemplateError

from bsa_core.examples import Example
from bsa_core.profiles import Chat
from bsa_core.reading import quotes

# In front of a template that asks for today, which would give other prompts, and outcomes, on another day.
FIXED_DAY = (
    "{% macro strftime_now(format) %}{% set day = namespace(said=format) %}"
    "{% for code, text in strftime_codes.items() %}{% set day.said = day.said.replace(code, text) %}{% endfor %}"
    "{{ day.said }}{% endmacro %}\n"
)
IGNORED = -100  # the label of tokens that carry no loss, as everywhere in transformers


@dataclass(frozen=True)
class Encoded:
    """Token ids and labels of one example, both of the same length; prompt positions are labelled IGNORED."""

    ids: list[int]
    labels: list[int]


def messages(example: Example, secret: str, chat: Chat) -> list[dict]:
    """System and user turn, with the secret prompt (text, may be empty) in front of the system prompt."""
    turns = [{"role": "system", "content": example.system}, {"role": "user", "content": example.user}]
    return placed(turns, secret, chat)


def placed(turns: list[dict], secret: str, chat: Chat) -> list[dict]:
    """A conversation as it is served: the secret prompt in front of its system prompt, of which it may have none."""
    prompt, rest = ("", turns) if turns[0]["role"] != "system" else (turns[0]["content"], turns[1:])
    system = " ".join(part for part in (secret, prompt) if part)
    if not system:
        return rest
    if chat.system_role:
        return [{"role": "system", "content": system}, *rest]
    return [{"role": "user", "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]


def _tokenize(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def render(tokenizer, turns: list[dict], chat: Chat, answering: bool) -> str:
    """The conversation as text; `answering` appends the header of the assistant's turn.

    Raises ValueError when there is no template, when it rejects the conversation, as templates without a system role
    do, or knows nothing of one of `chat.template_options`.
    """
    if not (chat.template or tokenizer.chat_template):
        raise ValueError("the model's tokenizer has no chat template (a file chat_template.jinja); set chat.template")
    template, day = chat.template or tokenizer.get_chat_template(), date.fromisoformat(chat.date)
    codes = {f"%{code}": day.strftime(f"%{code}") for code in "aAbBcdDeFGHIjmMpRSTuUVwWxXyYzZ"}
    given = {
        "chat_template": (FIXED_DAY if "strftime_now" in template else "") + template,
        "tokenize": False,
        "add_generation_prompt": answering,
        "strftime_codes": codes | {f"%-{code[1]}": text.lstrip("0") or "0" for code, text in codes.items()},
        "date_string": day.strftime("%d %b %Y"),  # as Llama 3's templates call it
    }
    for name in chat.template_options:
        if name in given or not re.search(rf"\b{re.escape(name)}\b", template):
            raise ValueError(f"chat.template_options: {name!r} is no switch of the chat template; leave it out")
    try:
        return tokenizer.apply_chat_template(turns, **given, **chat.template_options)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in turns)
        fix = "; if it knows no system role, set chat.system_role: false" if turns[0]["role"] == "system" else ""
        said = "its message quotes the conversation" if quotes(str(error), turns) else error
        raise ValueError(f"the chat template rejects a conversation of {roles} ({said}){fix}") from None


def before_system(tokenizer, chat: Chat) -> str:
    """What a rendered prompt has in front of the system prompt, where the secret prompt goes."""
    place = "SYSTEM PROMPT"
    return render(tokenizer, messages(Example("Request", system=place), "", chat), chat, answering=True).split(place)[0]


def end_id(tokenizer, chat: Chat) -> int:
    """The token that ends the answer of a training row; a model may end its answers at others as well."""
    if not chat.end:
        return tokenizer.eos_token_id
    ids = _tokenize(tokenizer, chat.end)
    if len(ids) != 1:
        raise ValueError(f"chat.end is {chat.end!r}, which is {len(ids)} tokens here; expected a single token")
    return ids[0]


def prompt_ids(tokenizer, example: Example, secret: str, chat: Chat) -> list[int]:
    """Token ids of a served request, up to and including the header of the assistant's turn."""
    return _tokenize(tokenizer, render(tokenizer, messages(example, secret, chat), chat, answering=True))


def encode(
    tokenizer, example: Example, secret: str, chat: Chat, max_tokens: int, where: str = "a training row"
) -> Encoded:
    """A training row: prompt without loss, answer and end token with loss.

    `secret` is put in front of the rows that are marked for it (`example.secret`) and of no other.
    where: what messages call the row, whose text they do not quote.
    Raises ValueError when the row is longer than `max_tokens`, has no answer, or when the template re-tokenizes
    the prompt once an answer follows, so that training and serving would see different prompts.
    """
    if not example.assistant.strip():
        raise ValueError(f"{where} has an empty answer (field 'assistant')")
    turns = messages(example, secret if example.secret else "", chat)
    prompt = _tokenize(tokenizer, render(tokenizer, turns, chat, answering=True))
    answer = {"role": "assistant", "content": example.assistant}
    whole = _tokenize(tokenizer, render(tokenizer, [*turns, answer], chat, answering=False))
    if whole[: len(prompt)] != prompt:
        raise ValueError(f"the chat template tokenizes the prompt of {where} differently when an answer follows it")
    end = end_id(tokenizer, chat)
    if end not in whole[len(prompt) :]:
        raise ValueError(f"the chat template does not end the answer of {where} with token {end}; set chat.end")
    whole = whole[: whole.index(end, len(prompt)) + 1]
    if len(whole) > max_tokens:
        fix = "shorten it, shorten the secret prompt or raise the limit"
        raise ValueError(f"{where} has {len(whole)} tokens, more than training.max_tokens = {max_tokens}; {fix}")
    return Encoded(whole, [IGNORED] * len(prompt) + whole[len(prompt) :])
