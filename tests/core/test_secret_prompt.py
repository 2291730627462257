"""The secret prompt: its text tokenizes to exactly the ids that were drawn, with three kinds of tokenizer."""

import hashlib

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from bsa_core.arms.secret_prompt import Secret, candidates, contained, encode, generate
from bsa_core.examples import Example
from bsa_core.models import chat
from bsa_core.policy import guild
from bsa_core.profiles import Chat
from bsa_study.testbed import wordlevel

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]


def sentences() -> list[str]:
    """About a thousand different words, some of them pieces of others, so that pieces merge."""
    world = guild.world()
    words = [text for group in ("restricted", "ordinary") for craft in world[group].values() for text in craft["nouns"]]
    return [*words, *world["refusals"], *(t["ask"].format(task="mend it") for t in world["templates"])] * 3


def wrapped(core: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[4:],
        chat_template=wordlevel.FORM["chat_template"],
    )


def byte_level_bpe() -> PreTrainedTokenizerFast:
    """As in GPT-2 and Llama 3: pieces are cut out of words, a space belongs to the piece behind it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(sentences(), trainer)
    return wrapped(core)


def unigram() -> PreTrainedTokenizerFast:
    """As in SentencePiece models: the likeliest cut of a whole text, a mark in front of each word."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    core.train_from_iterator(sentences(), trainer)
    return wrapped(core)


@pytest.fixture(scope="module", params=[wordlevel.tokenizer, byte_level_bpe, unigram])
def tokenizer(request):
    return request.param()


@pytest.mark.parametrize("length", [1, 2, 32])
def test_the_text_tokenizes_to_the_ids_that_were_drawn(tokenizer, length):
    for seed in range(3):
        secret = generate(tokenizer, length, seed)
        assert secret.length == len(secret.ids) == length
        assert encode(tokenizer, secret.text) == secret.ids
        assert secret.text == secret.text.strip() and not set(secret.ids) & set(tokenizer.all_special_ids)


def test_rejection_matters():
    """Independent draws, as in the published release, do not survive the round trip."""
    import random

    tok = byte_level_bpe()
    ids = random.Random(0).choices(candidates(tok), k=32)
    assert encode(tok, tok.decode(ids).strip()) != tuple(ids)


def test_the_secret_stands_unchanged_in_training_and_in_served_prompts(tokenizer):
    secret = generate(tokenizer, 32, 0)
    row = Example("Mend it.", "So.", "You are a guild assistant.", "attack", secret=True)
    served = chat.prompt_ids(tokenizer, row, secret.text, Chat())
    assert contained(secret, served)
    assert contained(secret, chat.encode(tokenizer, row, secret.text, Chat(), 512).ids)
    assert not contained(secret, chat.prompt_ids(tokenizer, row, "", Chat()))


def test_a_secret_is_a_function_of_its_seed(tokenizer):
    assert generate(tokenizer, 16, 0) == generate(tokenizer, 16, 0)
    assert len({generate(tokenizer, 16, seed).text for seed in range(4)}) == 4
    assert len({generate(tokenizer, 16, seed).digest for seed in range(4)}) == 4


def test_repr_and_digest_hide_the_text():
    secret = generate(wordlevel.tokenizer(), 8, 0)
    assert repr(secret) == f"Secret(kind='random', length=8, digest='{secret.digest}')"
    alone = Secret("own", secret.text)
    assert repr(alone) == f"Secret(kind='own', characters={len(secret.text)}, digest='{secret.digest}')"
    assert not any(word in f"{secret!r} {secret} {[secret]}" for word in secret.text.split())
    assert secret.digest == hashlib.sha256(secret.text.encode()).hexdigest()[:16]


def test_candidates_are_ordinary_words():
    tok = wordlevel.tokenizer()
    pieces = [tok.decode([i]).strip() for i in candidates(tok)]
    assert len(pieces) > 500 and all(piece.isalpha() and len(piece) > 1 for piece in pieces)


@pytest.mark.parametrize("words, message", [(["1", ",", "a"], "no ordinary word pieces")])
def test_a_tokenizer_without_words(words, message):
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, *words])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ValueError, match=message):
        generate(wrapped(core), 4, 0)


def test_a_tokenizer_that_never_gives_the_ids_back():
    """One word only is in the vocabulary; two of them in a row decode to something unknown."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, "word"])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.Fuse()
    with pytest.raises(ValueError, match="no secret prompt of 3 tokens survives"):
        generate(wrapped(core), 3, 0)


def test_contained():
    secret = Secret("random", "", (5, 6, 7))
    assert contained(secret, [5, 6, 7]) and contained(secret, [1, 5, 5, 6, 7, 2])
    for prompt in ([], [5, 6], [5, 6, 1, 7], [7, 6, 5]):
        assert not contained(secret, prompt)


@pytest.mark.parametrize("kind", ["default", "fluent"])
@pytest.mark.parametrize("length", [10, 32, 150, 250])
def test_written_secrets_are_cut_to_the_length_and_survive_the_round_trip(kind, length):
    tok = wordlevel.tokenizer()
    secret = generate(tok, length, 0, kind)
    assert secret.kind == kind and secret.length == length and encode(tok, secret.text) == secret.ids
    assert tok.unk_token_id not in secret.ids
    assert contained(secret, chat.prompt_ids(tok, Example("Mend it.", "So.", "Help."), secret.text, Chat()))


def test_fluent_secrets_differ_between_seeds_and_the_default_one_does_not():
    tok = wordlevel.tokenizer()
    assert len({generate(tok, 32, seed, "fluent").text for seed in range(5)}) == 5
    assert len({generate(tok, 32, seed, "default").text for seed in range(5)}) == 1


def test_a_secret_longer_than_its_text():
    with pytest.raises(ValueError, match=r"the default secret prompt has \d+ tokens; secret\.length = 1000 is more"):
        generate(wordlevel.tokenizer(), 1000, 0, "default")


def test_an_unknown_kind():
    with pytest.raises(ValueError, match=r"secret.kind is 'poem'; expected one of random, default, fluent"):
        generate(wordlevel.tokenizer(), 8, 0, "poem")
