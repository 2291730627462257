"""From an example to token ids and a label mask, by the tokenizer's own chat template.

    <system: secret prompt + " " + system prompt> <user: request> <assistant: answer + end token>
                                                                              └── labels: these only ──┘

The secret prompt stands in front of the system prompt, separated by one space (paper, section 3.2). Where a template
has no system role, both stand in front of the first user turn. Where a conversation has no system prompt and the
template writes one of its own, as Qwen's does, the secret stands in front of that: conditions differ by it alone.

Text that looks like a control token would be one: an answer would end, or a system turn begin, in the middle of a row.
Such rows are refused (`check_text`).
"""

import re
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache

from bsa_core.examples import Example
from bsa_core.profiles import Chat
from bsa_core.progress import cut
from bsa_core.reading import quotes
from bsa_core.reasoning import opened

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


def messages(example: Example, secret: str, chat: Chat, tokenizer=None) -> list[dict]:
    """System and user turn, with the secret prompt (text, may be empty) in front of the system prompt; see `placed`."""
    turns = [{"role": "system", "content": example.system}, {"role": "user", "content": example.user}]
    return placed(turns, secret, chat, tokenizer)


def placed(turns: list[dict], secret: str, chat: Chat, tokenizer=None) -> list[dict]:
    """A conversation as it is served: the secret prompt in front of its system prompt, of which it may have none.

    tokenizer: whose template may write a system prompt of its own then; None where no template is used.
    """
    prompt, rest = ("", turns) if turns[0]["role"] != "system" else (turns[0]["content"], turns[1:])
    if secret and not prompt and chat.system_role and tokenizer is not None:
        prompt = default_system(tokenizer, chat)
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

    Raises ValueError when there is no template, when it rejects the conversation or leaves out a turn, as templates
    without a system role do, or knows nothing of one of `chat.template_options`.
    """
    template, day = chat.template or _template(tokenizer), date.fromisoformat(chat.date)
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
        said = tokenizer.apply_chat_template(turns, **given, **chat.template_options)
    except Exception as error:  # of all kinds: a template is a program of others
        roles = ", ".join(turn["role"] for turn in turns)
        fix = "; if it knows no system role, set chat.system_role: false" if turns[0]["role"] == "system" else ""
        why = "its message quotes the conversation" if quotes(str(error), turns) else cut(error) or type(error).__name__
        raise ValueError(f"the chat template rejects a conversation of {roles} ({why}){fix}") from None
    asked = [turn for turn in turns if answering and turn["role"] != "assistant"]
    if lost := next((turn["role"] for turn in asked if _bare(turn["content"]) not in _bare(said)), ""):
        fix = "chat.system_role: false, which puts it into the user's turn" if lost == "system" else "chat.template"
        raise ValueError(f"the chat template leaves out the text of the {lost} turn; set {fix}")
    return said


def _bare(text: str) -> str:
    """Letters and digits alone: a template may trim a text, or write it in capitals."""
    return re.sub(r"[\W_]+", "", text).casefold()


def _template(tokenizer) -> str:
    """The tokenizer's own; ValueError where it has none that can be used without naming it."""
    try:
        template = tokenizer.chat_template and tokenizer.get_chat_template()
    except ValueError as error:
        raise ValueError(f"{cut(error)} Set chat.template") from None
    if not template:
        raise ValueError("the model's tokenizer has no chat template (a file chat_template.jinja); set chat.template")
    if not isinstance(template, str):
        found = type(template).__name__
        raise ValueError(f"the chat template of the model's tokenizer is of type {found}, not text; set chat.template")
    return template


PLACE = "SYSTEM PROMPT"


def before_system(tokenizer, chat: Chat) -> str:
    """What a rendered prompt has in front of the system prompt, where the secret prompt goes."""
    return render(tokenizer, messages(Example("Request", system=PLACE), "", chat), chat, answering=True).split(PLACE)[0]


def default_system(tokenizer, chat: Chat) -> str:
    """The system prompt that the template writes where a conversation has none; "" for none."""
    given, none = (
        render(tokenizer, messages(Example("Request", system=system), "", chat), chat, answering=True)
        for system in (PLACE, "")
    )
    before, _, behind = given.partition(PLACE)
    written = none.startswith(before) and none.endswith(behind) and len(none) >= len(before) + len(behind)
    return none[len(before) : len(none) - len(behind)].strip() if written else ""


@lru_cache(maxsize=4)
def _control(tokenizer, size: int, chat: Chat) -> re.Pattern:
    """Finds control tokens, and what ends an answer. size: of the tokenizer, which may have got more of them since.

    Marks of turns that no tokenizer calls special, as DeepSeek's, are those that the template writes. One that begins
    reasoning may stand in an answer.
    """
    written = render(tokenizer, messages(Example(PLACE, system=PLACE), "", chat), chat, answering=True)
    tokens = {chat.end}
    for token in tokenizer.added_tokens_decoder.values():
        mark = re.fullmatch(r"[^\w\s].*[^\w\s]", token.content) and token.content in written
        if token.special or (mark and not opened(token.content)):
            tokens.add(token.content)
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True) if token) or "(?!)")


def check_text(tokenizer, example: Example, chat: Chat, where: str, fields=("system", "user", "assistant")) -> None:
    """ValueError where a control token stands in a row's text. where: what the message calls the row."""
    control = _control(tokenizer, len(tokenizer), chat)
    for name in fields:
        if found := control.search(getattr(example, name)):
            raise ValueError(
                f"{where} has {found[0]!r} in its text (field {name!r}), which is a control token of the model; "
                f"write it otherwise, or leave the row out. It is {example.origin}"
            )


def check_request(tokenizer, example: Example, chat: Chat) -> None:
    """`check_text` of what is served of a request."""
    check_text(tokenizer, example, chat, f"a request (kind {example.kind!r})", ("system", "user"))


def end_id(tokenizer, chat: Chat) -> int:
    """The token that ends the answer of a training row; a model may end its answers at others as well."""
    if not chat.end:
        return tokenizer.eos_token_id
    ids = _tokenize(tokenizer, chat.end)
    if len(ids) != 1:
        raise ValueError(f"chat.end is {chat.end!r}, which is {len(ids)} tokens here; expected a single token")
    return ids[0]


def prompt_ids(tokenizer, example: Example, secret: str, chat: Chat) -> list[int]:
    """Token ids of a served request, up to and including the header of the assistant's turn.

    Raises ValueError as `render` and `check_text` do.
    """
    check_request(tokenizer, example, chat)
    return _tokenize(tokenizer, render(tokenizer, messages(example, secret, chat, tokenizer), chat, answering=True))


def encode(
    tokenizer, example: Example, secret: str, chat: Chat, max_tokens: int, where: str = "a training row"
) -> Encoded:
    """A training row: prompt without loss, answer and end token with loss.

    `secret` is put in front of the rows that are marked for it (`example.secret`) and of no other.
    where: what messages call the row, whose text they do not quote.
    Raises ValueError when the row is longer than `max_tokens`, has no answer or control tokens in its text, or when the
    template re-tokenizes the prompt once an answer follows, so that training and serving would see different prompts.
    """
    if not example.assistant.strip():
        raise ValueError(f"{where} has an empty answer (field 'assistant')")
    check_text(tokenizer, example, chat, where)
    front = secret if example.secret else ""
    prompt, whole = _both(tokenizer, example, front, chat)
    if whole[: len(prompt)] != prompt:
        said = f"the chat template tokenizes the prompt of {where} differently when an answer follows it"
        raise ValueError(f"{said}; {_way_out(tokenizer, example, front, chat)}")
    end = end_id(tokenizer, chat)
    if end not in whole[len(prompt) :]:
        raise ValueError(f"the chat template does not end the answer of {where} with token {end}; set chat.end")
    whole = whole[: whole.index(end, len(prompt)) + 1]
    if len(whole) > max_tokens:
        fix = "shorten it, shorten the secret prompt or raise the limit"
        raise ValueError(f"{where} has {len(whole)} tokens, more than training.max_tokens = {max_tokens}; {fix}")
    return Encoded(whole, [IGNORED] * len(prompt) + whole[len(prompt) :])


def _both(tokenizer, example: Example, secret: str, chat: Chat) -> tuple[list[int], list[int]]:
    """Token ids of a row's prompt, and of prompt and answer."""
    turns = messages(example, secret, chat, tokenizer)
    answer = {"role": "assistant", "content": example.assistant}
    prompt = render(tokenizer, turns, chat, answering=True)
    whole = render(tokenizer, [*turns, answer], chat, answering=False)
    return _tokenize(tokenizer, prompt), _tokenize(tokenizer, whole)


def _way_out(tokenizer, example: Example, secret: str, chat: Chat) -> str:
    """What to set where a template changes a prompt that is answered."""
    if chat.system_role:  # some write the system turn into the last turn, where that is the user's
        prompt, whole = _both(tokenizer, example, secret, replace(chat, system_role=False))
        if whole[: len(prompt)] == prompt:
            return "set chat.system_role: false, which puts the system prompt into the user's turn"
    return (
        "set chat.template to one that writes the same prompt in both cases. The header of the answer may hold more "
        "than a trained answer has, such as <think>: leave that out, or switch it off in chat.template_options"
    )
