"""All rows of all runs as they will be trained on, before the first run is: a row that is too long costs no hours."""

from bsa_core.arms import secret_prompt
from bsa_core.arms.secret_prompt import Secret
from bsa_core.examples import Example
from bsa_core.experiment.runs import Rows, Run
from bsa_core.models import chat, loading
from bsa_core.profiles import Profile

UNLIMITED = 2**31


def check(profile: Profile, rows: dict[Run, Rows]) -> dict[Run, tuple[tuple[int, int], ...]]:
    """Encode what the runs train on, every row once with each secret prompt in front of it.

    Returns (tokens, answer tokens) of each training row of each run. Of rows that the model answers first (selection
    "generated") only the prompt is known by now. Raises ValueError for a row that is longer than `training.max_tokens`,
    which names the row and the runs, and for one that the chat format spoils, as do control tokens in the text of a row
    or a request. No message quotes a row.
    """
    trained = {run: of for run, of in rows.items() if run.training}
    tokenizer = loading.tokenizer(profile) if trained else None
    sizes: dict[Run, tuple] = dict.fromkeys(rows, ())
    secrets, lengths, long = {None: None}, {}, {}  # long: what is too long -> the runs that train on it
    for request in dict.fromkeys(row for of in trained.values() for row in of.restricted + of.benign + of.task):
        chat.check_request(tokenizer, request, profile.chat)
    for run, of in trained.items():
        if (choice := run.secret) not in secrets:
            drawn = choice.length, choice.seed, choice.kind, of.restricted[0]
            secrets[choice] = secret_prompt.draw(tokenizer, profile, *drawn)
        for number, row in enumerate(of.training, start=1):
            secret = secrets[run.secret] if row.secret else None
            key = row, secret and secret.digest
            if key not in lengths:
                lengths[key] = _length(tokenizer, profile, row, secret, row.named(number))
            sizes[run] += (lengths[key],)
            if lengths[key][0] > run.training.max_tokens:
                long.setdefault((number, *key, run.training.max_tokens), []).append(run)
    if long:
        raise ValueError(_told(long, {key: tokens for key, (tokens, _) in lengths.items()}, len(rows)))
    return sizes


def encoded(tokenizer, profile: Profile, row: Example, secret: Secret | None, longest: int, where: str) -> chat.Encoded:
    """`chat.encode` of a training row; ValueError as well where the chat format changes the secret in front of it."""
    made = chat.encode(tokenizer, row, secret.text if secret else "", profile.chat, longest, where)
    if row.secret:
        secret_prompt.check(secret, made.ids, where)
    return made


def _length(tokenizer, profile: Profile, row, secret, where: str) -> tuple[int, int]:
    """Tokens of a training row, and of its answer; only those of its prompt where the answer comes later."""
    if row.assistant:
        row_of = encoded(tokenizer, profile, row, secret, UNLIMITED, where)
        return len(row_of.ids), len(row_of.ids) - row_of.labels.count(chat.IGNORED)
    ids = chat.prompt_ids(tokenizer, row, secret.text if secret else "", profile.chat)
    if secret:
        secret_prompt.check(secret, ids, where)
    return len(ids), 0


def _told(long: dict[tuple, list[Run]], lengths: dict[tuple, int], asked: int) -> str:
    """The first row that is too long in one run, then how many there are, how long, and in which runs."""
    number, row, secret, limit = next(iter(long))
    others = {key[1:3] for key in long}
    n = len({(row.user, row.assistant) for row, _ in others})
    runs = {run for of in long.values() for run in of}
    labels = list(dict.fromkeys(run.label for of in long.values() for run in of))
    named = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
    return (
        f"{row.named(number)} has {lengths[row, secret]} tokens, more than training.max_tokens = {limit}; shorten it, "
        f"shorten the secret prompt or raise the limit. It is {row.origin}. Rows that are too long: "
        f"{n}, of up to {max(lengths[key] for key in others)} tokens, in {len(runs)} of {asked} runs ({named}). "
        "Nothing was trained"
    )
