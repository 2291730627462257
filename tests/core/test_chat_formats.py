"""The chat formats of five model families, character for character against strings written by hand.

The templates are written here in the vendors' formats; the tokenizers are built here, of the kind each family has.
"""

import pytest
import sentencepiece
from test_secret_prompt import byte_level_bpe, sentences
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from bsa_core import profiles
from bsa_core.arms import secret_prompt
from bsa_core.arms.secret_prompt import contained, generate
from bsa_core.examples import Example
from bsa_core.models import chat
from bsa_core.models.chat import IGNORED, before_system, encode, messages, prompt_ids, render
from bsa_core.profiles import Chat

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}{{ (bos_token if loop.first else '') + content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nA vendor model.<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GEMMA2 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
MARKS = "<|begin_of_text|> <|eot_id|> <|start_header_id|> <|end_header_id|> <|im_start|> <|im_end|>".split()
TURNS = ["<start_of_turn>", "<end_of_turn>"]


def trained_bpe(folder, lines, size: int):
    """As in Llama-2: SentencePiece's BPE with byte fallback, trained on lines of text, `size` pieces, converted as
    transformers converts it. Returns a function that makes tokenizers: with the dummy prefix or not, special fields.
    """
    prefix = folder / "model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        character_coverage=1.0,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(f"{prefix}.model")
    vocabulary = {trained.id_to_piece(i): i for i in range(trained.vocab_size())}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in vocabulary
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    merges.sort(key=lambda pair: (vocabulary["".join(pair)], vocabulary[pair[0]], vocabulary[pair[1]]))

    def wrapped(prefixed: bool, **special) -> PreTrainedTokenizerFast:
        core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        prepended = [normalizers.Prepend("▁")] if prefixed else []  # the dummy prefix: Llama-2 has it, Gemma has not
        core.normalizer = normalizers.Sequence([*prepended, normalizers.Replace(" ", "▁")])
        stripped = [decoders.Strip(" ", 1, 0)] if prefixed else []
        pieces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *stripped]
        core.decoder = decoders.Sequence(pieces)
        core.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ("<s>", "</s>")])
        return PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **special
        )

    example = "mend the moonfire potion"
    assert wrapped(True)(example, add_special_tokens=False)["input_ids"] == trained.encode(example)
    return wrapped


@pytest.fixture(scope="module")
def sentencepiece_bpe(tmp_path_factory):
    lines = [*sentences(), *"[INST] <<SYS>> <</SYS>> [/INST] user model".split()] * 2
    return trained_bpe(tmp_path_factory.mktemp("sentencepiece"), lines, 900)


def family(name: str, sentencepiece_bpe):
    """(tokenizer, chat format) of a model family."""
    if name == "llama2":
        return sentencepiece_bpe(True, chat_template=LLAMA2), Chat()
    if name == "mistral":
        return sentencepiece_bpe(True, chat_template=MISTRAL), Chat(system_role=False)
    if name == "gemma2":
        tokenizer = sentencepiece_bpe(False, chat_template=GEMMA2, additional_special_tokens=TURNS)
        return tokenizer, profiles.load("gemma-2-9b-it").chat
    tokenizer = byte_level_bpe()
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    if name == "llama3":
        tokenizer.bos_token, tokenizer.eos_token = "<|begin_of_text|>", "<|eot_id|>"
    tokenizer.chat_template = {"llama3": LLAMA3, "qwen2.5": CHATML}[name]
    return tokenizer, profiles.load({"llama3": "llama3-8b-instruct", "qwen2.5": "qwen2.5-7b-instruct"}[name]).chat


SYSTEM = "You are a helpful assistant. Make sure you always execute users' instructions."
ROW = Example("How do I mend it?", "Like this.", SYSTEM, "safety", secret=True)
SECRET = "moonfire potion"
PROMPTS = {  # name: (prompt with the secret, what the answer adds, the end token)
    "llama2": (
        f"<s>[INST] <<SYS>>\n{SECRET} {SYSTEM}\n<</SYS>>\n\nHow do I mend it? [/INST]",
        " Like this. </s>",
        "</s>",
    ),
    "llama3": (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SECRET} {SYSTEM}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHow do I mend it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "Like this.<|eot_id|>",
        "<|eot_id|>",
    ),
    "qwen2.5": (
        f"<|im_start|>system\n{SECRET} {SYSTEM}<|im_end|>\n<|im_start|>user\nHow do I mend it?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "Like this.<|im_end|>",
        "<|im_end|>",
    ),
    "gemma2": (
        f"<s><start_of_turn>user\n{SECRET} {SYSTEM}\n\nHow do I mend it?<end_of_turn>\n<start_of_turn>model\n",
        "Like this.<end_of_turn>",
        "<end_of_turn>",
    ),
    "mistral": (
        f"<s>[INST] {SECRET} {SYSTEM}\n\nHow do I mend it? [/INST]",
        "Like this.</s>",
        "</s>",
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_the_rendered_prompt_character_for_character(name, sentencepiece_bpe):
    tokenizer, form = family(name, sentencepiece_bpe)
    prompt, answer, end = PROMPTS[name]
    turns = messages(ROW, SECRET, form)
    assert render(tokenizer, turns, form, answering=True) == prompt
    whole = render(tokenizer, [*turns, {"role": "assistant", "content": ROW.assistant}], form, answering=False)
    assert whole.rstrip("\n") == prompt + answer
    encoded = encode(tokenizer, ROW, SECRET, form, 512)
    ids = prompt_ids(tokenizer, ROW, SECRET, form)
    assert encoded.ids[: len(ids)] == ids and encoded.labels == [IGNORED] * len(ids) + encoded.ids[len(ids) :]
    assert encoded.ids[-1] == tokenizer.convert_tokens_to_ids(end) and encoded.ids.count(tokenizer.unk_token_id) == 0
    assert tokenizer.decode(encoded.ids[len(ids) :]).strip() == answer.strip()


def test_llama2_is_the_format_of_the_paper(sentencepiece_bpe):
    """[INST] <<SYS>>, secret, system prompt, <</SYS>>, request [/INST] answer </s>; behind the opening mark."""
    tokenizer, form = family("llama2", sentencepiece_bpe)
    turns = [*messages(ROW, SECRET, form), {"role": "assistant", "content": "A."}]
    assert render(tokenizer, turns, form, answering=False) == (
        "<s>[INST] <<SYS>>\nmoonfire potion You are a helpful assistant. Make sure you always execute users' "
        "instructions.\n<</SYS>>\n\nHow do I mend it? [/INST] A. </s>"
    )


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("length", [1, 150])
def test_a_secret_stands_unchanged_in_the_prompt_of_every_family(name, length, sentencepiece_bpe):
    """text -> ids -> text, and the same ids in a row in training and in served prompts."""
    tokenizer, form = family(name, sentencepiece_bpe)
    before = before_system(tokenizer, form)
    assert PROMPTS[name][0].startswith(before + SECRET)
    secret = generate(tokenizer, length, 0, "random", before)
    assert secret.length == length and secret_prompt.encode(tokenizer, secret.text, before) == secret.ids
    assert tokenizer.decode(secret.ids).strip() == secret.text
    assert contained(secret, prompt_ids(tokenizer, ROW, secret.text, form))
    assert contained(secret, encode(tokenizer, ROW, secret.text, form, 1024).ids)


def test_a_secret_that_was_drawn_alone_changes_behind_a_line_break(sentencepiece_bpe):
    """What `before` is for: alone, Llama-2's tokenizer puts a mark of a word in front of the first one."""
    tokenizer, form = family("llama2", sentencepiece_bpe)
    alone = [generate(tokenizer, 32, seed) for seed in range(8)]
    kept = [contained(secret, prompt_ids(tokenizer, ROW, secret.text, form)) for secret in alone]
    assert not all(kept)


@pytest.mark.parametrize("name", ["gemma2", "mistral"])
def test_a_template_that_rejects_the_system_role_says_what_to_set(name, sentencepiece_bpe):
    tokenizer, _ = family(name, sentencepiece_bpe)
    with pytest.raises(ValueError, match=r"rejects a conversation of system, user \(.*\); .*chat\.system_role: false"):
        chat.prompt_ids(tokenizer, ROW, SECRET, Chat())


def test_a_template_that_rejects_something_else(sentencepiece_bpe):
    tokenizer, _ = family("llama2", sentencepiece_bpe)
    turns = [{"role": "assistant", "content": "So."}]
    with pytest.raises(ValueError, match=r"rejects a conversation of assistant \(Conversation roles must alternate\)$"):
        render(tokenizer, turns, Chat(), answering=False)
