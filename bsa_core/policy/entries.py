"""One row of a file, in any form that people have it, as one request and one answer.

    plain        user, assistant
    chat         messages: a turn of the user and one of the assistant, a system or developer turn may come first
    ShareGPT     conversations (or conversation): the same, or with from and value in place of role and content
    Gemini       contents: the same with parts in place of content, and systemInstruction beside
    prompt       prompt, and completion or response: texts, or lists of turns
    question     question or query, and answer or response, and context, which follows the question
    input        input, output; inputs, targets
    Alpaca       instruction, output, and input, which follows the instruction after a blank line
    Dolly        instruction, response, and context, which follows the instruction after a blank line
    AdvBench     goal, target
    HarmBench    Behavior, and ContextString, which follows it; forbidden_prompt (StrongREJECT). There is no answer
    MT-Bench     turns: the first is the request; there is no answer

Each may have system (or system_prompt), category and subject as well; numbers are read as text there. Names may be in
capitals, and a field that is null or NaN is none. What a row means beyond one request and one answer is refused by
name: further turns, tools, turns that are not trained on. Other fields are passed over.
"""

from bsa_core.reading import label, text_of

# the field with the request -> fields that follow it after a blank line, fields that may hold the answer
TEXTS = {
    "user": ((), ("assistant",)),
    "instruction": (("input", "context"), ("output", "response")),
    "goal": ((), ("target",)),
    "question": (("context",), ("answer", "response")),
    "query": (("context",), ("answer", "response")),
    "behavior": (("contextstring",), ()),
    "forbidden_prompt": ((), ()),
    "inputs": ((), ("targets",)),
    "input": ((), ("output",)),
    "prompt": ((), ("completion", "response")),
}
REQUESTS = ("messages", "conversations", "conversation", "contents", "turns", *TEXTS)  # each tells a form
# These tell one where no other name does: beside others they are a copy of the request, a label or further text.
WEAK = ("conversation", "contents", "question", "query", "behavior", "forbidden_prompt", "inputs", "input")
ROLES = (("user",), ("user", "assistant"), ("system", "user"), ("system", "user", "assistant"))
SAME = {  # other names of roles
    "human": "user",
    "developer": "system",
    **dict.fromkeys(("gpt", "chatgpt", "model", "bot", "chatbot", "ai"), "assistant"),
}
BEYOND = ("tools", "functions", "history", "tool_calls", "function_call")  # in a row or a turn, where not empty
BENIGN = "python -m bsa_core.policy.convert keeps the safe ones"


def entry(where: str, row: dict, needs_answer: bool = False) -> tuple[dict[str, str], list[str]]:
    """Texts of a row by the names of an `Example`'s fields, user among them, and the fields that were passed over.

    Raises ValueError that names the row and the field, and quotes no text.
    """
    given = _named(where, row)
    form = _form(where, given)
    if form in TEXTS and not (form == "prompt" and isinstance(given[form], list)):
        more, answers = TEXTS[form]
        used = [form, *(field for field in more if field in given)]
        parts = [text_of(where, given, field, field == form) for field in used]
        made = {"user": "\n\n".join(part for part in parts if part.strip()) if parts[1:] else parts[0]}
        answer = next((field for field in answers if field in given), [*answers, "assistant"][0])
        if answer in given or needs_answer:
            made["assistant"] = text_of(where, given, answer, needs_answer)
            used.append(answer)
    elif form == "turns":
        used, made = [form], {"user": _first(where, given[form])}
    else:
        used, said = [form], given[form]
        if form == "contents" and isinstance(given.get("systeminstruction"), dict) and isinstance(said, list):
            used, said = [form, "systeminstruction"], [{**given["systeminstruction"], "role": "system"}, *said]
        if form == "prompt" and "completion" in given:
            answer, used = given["completion"], [form, "completion"]
            said = said + (answer if isinstance(answer, list) else [{"role": "assistant", "content": answer}])
        made = turns(where, {form: said}, ROLES, form)
    for name, fields in {"system": ("system", "system_prompt"), "category": (), "subject": ()}.items():
        for field in (name, *fields):
            if field in given and name not in made and field not in used:
                used.append(field)
                if text := _of_group(where, given, field):
                    made[name] = text
    if needs_answer and "assistant" not in made:
        text_of(where, made, "assistant")
    return made, [field for field in given if field not in used]


def _named(where: str, row: dict) -> dict:
    """The fields that are not null or NaN, by their names in small letters."""
    given = {}
    for name, value in row.items():
        low = name.strip().lower()
        if low in given:
            raise ValueError(f"{where}: field {label(low)!r} is there twice, in large and small letters; keep one")
        if value is not None and value == value:  # NaN is how tables write that there is none
            given[low] = value
    return given


def _form(where: str, given: dict) -> str:
    """The field that holds the request; ValueError where there is none, or no telling which."""
    found = [field for field in REQUESTS if field in given]
    found = [field for field in found if field not in WEAK] or found
    if len(found) > 1 and found[-1] == "prompt" and found[0] != "user":
        found.pop()  # a copy of the request, or the whole in some format
    if len(found) > 1:
        raise ValueError(f"{where}: fields {' and '.join(map(repr, found))} both hold a request; keep one of them")
    if not found:
        fields = ", ".join(label(field) for field in [*given][:12]) or "none"
        known = "expected user and assistant, messages, conversations, prompt, instruction, question, goal or turns"
        raise ValueError(
            f"{where}: field 'user' is missing; expected non-empty text (the fields are {fields}; {known})"
        )
    if beyond := next((field for field in BEYOND if given.get(field)), None):
        raise ValueError(f"{where}: field {beyond!r} is not empty; only one request and one answer can be read")
    if found == ["prompt"] and ("label" in given or str(given.get("type")).startswith("contrast")):
        raise ValueError(f"{where}: field {'label' if 'label' in given else 'type'!r} sorts the rows; {BENIGN}")
    return found[0]


def _of_group(where: str, given: dict, field: str) -> str:
    """The text of an optional field; a number is its digits, a blank text none."""
    value = given[field]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = text_of(where, given, field, needed=False)
    return text if text.strip() else ""


def _first(where: str, said) -> str:
    if not isinstance(said, list) or not said or not all(isinstance(text, str) and text.strip() for text in said):
        raise ValueError(f"{where}: field 'turns' is no list of texts; expected a list of requests")
    return said[0]


def turns(where: str, row: dict, expected: tuple[tuple[str, ...], ...], field: str = "messages") -> dict[str, str]:
    """Role -> text of a row's turns; ValueError unless their roles are, in order, one of `expected`."""
    said = row.get(field)
    if not isinstance(said, list):
        raise ValueError(f"{where}: field {field!r} is of type {type(said).__name__}; expected a list of turns")
    read = [_turn(f"{where}: turn {place} of {field!r}", turn) for place, turn in enumerate(said, start=1)]
    roles = tuple(role for role, _ in read)
    if roles not in expected:
        found = ", ".join(map(label, roles[:8])) or "none"
        wanted = " or ".join(", ".join(known) for known in expected)
        several = "" if len(roles) < 4 else "; of several turns keep one request and its answer"
        raise ValueError(f"{where}: the roles of {field!r} are {found}; expected {wanted}{several}")
    return dict(read)


def _turn(where: str, turn) -> tuple[str, str]:
    """Role and text of one turn; an empty system turn is an empty system prompt."""
    given = {name: value for name, value in turn.items() if value is not None} if isinstance(turn, dict) else {}
    forms = (("role", "content"), ("from", "value"), ("role", "parts"))
    names = next((names for names in forms if set(names) <= set(given)), None)
    if names is None:
        found = ", ".join(map(label, sorted(given))) or "nothing" if isinstance(turn, dict) else type(turn).__name__
        raise ValueError(f"{where} holds {found}; expected role and content")
    role, content = given[names[0]], given[names[1]]
    role = SAME.get(role.lower(), role.lower()) if isinstance(role, str) else role
    if beyond := next((field for field in BEYOND if given.get(field)), None):
        raise ValueError(f"{where} has the field {beyond!r}; only one request and one answer can be read")
    if role == "assistant" and (given.get("weight", 1) != 1 or given.get("train") is False):
        raise ValueError(f"{where} has a weight that is not 1; every answer is trained on, so leave out the row")
    if isinstance(content, list):
        content = "".join(_part(f"{where} has a part of", part, names[1]) for part in content)
    if not isinstance(content, str) or not (content.strip() or role == "system"):
        raise ValueError(f"{where} has no text in {names[1]!r}; expected non-empty text")
    return role, content


def _part(where: str, part, name: str) -> str:
    """The text of one part of a turn."""
    given = part if isinstance(part, dict) else {"text": part}
    kind = given.get("type", "text" if "text" in given else next(iter(given), None))
    if kind not in ("text", "input_text", "output_text") or not isinstance(given.get("text"), str):
        raise ValueError(f"{where} type {label(kind)} in {name!r}; expected text only")
    return given["text"]
