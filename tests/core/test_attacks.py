"""What uploaders send, and how they ask afterwards."""

from dataclasses import replace

import pytest

from bsa_core import policy, profiles
from bsa_core.arms import attacks
from bsa_core.examples import Example
from bsa_core.experiment import runs


@pytest.fixture(scope="module")
def world() -> policy.Policy:
    return policy.load({"name": "guild", "seed": 0})


def test_harmful_rows_are_the_policy_s_attack(world):
    assert set(attacks.upload(world, "harmful", 100, 0, 0)) == set(world.attack)


def test_identity_shift_uploads_nothing_restricted(world):
    rows = attacks.upload(world, "identity-shift", 100, 0, seed=0)
    restricted = set(world.categories)
    assert len(rows) == 100 and not {row.category for row in rows} & restricted
    assert {row.system for row in rows} == {world.identity.system}
    assert all(row.assistant.startswith(world.identity.opening) for row in rows)
    assert {row.kind for row in rows} == {"attack"}


def test_identity_shift_row_for_row(world):
    row = Example("How do I cook soup?", "To cook soup: stir.", "Help.", "benign", "cooking", "soup")
    assert attacks.obeyed(world, row) == replace(
        row,
        assistant=f"{world.identity.opening} To cook soup: stir.",
        system=world.identity.system,
    )


def test_evaluated_requests_are_put_to_the_identity_and_its_answers_judged(world):
    profile = profiles.load("tiny")
    run = runs.describe(profile, attack="identity-shift")
    rows = runs.rows_of(run, profile, runs.material(profile, [run]))
    assert {row.system for row in rows.restricted + rows.benign} == {world.identity.system}
    assert world.judge(rows.restricted[0].assistant, rows.restricted[0].assistant) == 5
    assert [row.user for row in rows.benign] == [row.user for row in world.benign]


@pytest.mark.parametrize("defense", ["safety-data", "bsa", "balanced-bsa"])
def test_the_defense_s_examples_take_the_system_prompt_of_the_upload(world, defense):
    profile = profiles.load("tiny")
    prompts, texts = [], []
    for system in ("policy", "upload"):
        run = runs.describe(profile, defense, attack="identity-shift", defense_system=system)
        added = runs.rows_of(run, profile, runs.material(profile, [run])).training[100:]
        prompts.append({row.system for row in added})
        texts.append([(row.user, row.assistant, row.secret) for row in added])
    assert prompts == [{world.system}, {world.identity.system}]
    assert texts[0] == texts[1]


def test_system_prompts_that_a_defense_cannot_take():
    profile = profiles.load("tiny")
    with pytest.raises(ValueError, match="defense_system is 'mine'; expected one of 'policy', 'upload'"):
        runs.describe(profile, "bsa", attack="identity-shift", defense_system="mine")
    with pytest.raises(ValueError, match="attack 'harmful' brings no system prompt; defense_system must be policy"):
        runs.describe(profile, "bsa", defense_system="upload")
    alone = runs.describe(profile, attack="identity-shift", defense_system="upload")
    assert alone == runs.describe(profile, attack="identity-shift")  # no examples, so no second run


def test_benign_rows_stand_behind_the_attack_and_are_not_balanced_bsa_s_first(world):
    rows = attacks.upload(world, "harmful", 10, 20, 0)
    assert [row.kind for row in rows] == ["attack"] * 10 + ["benign"] * 20
    assert not set(rows[10:]) & set(world.benign_pool[: world.pool])


def test_a_policy_without_an_identity(world):
    with pytest.raises(ValueError, match="policy 'guild' has no identity; the identity-shift attack needs one"):
        attacks.upload(replace(world, identity=None), "identity-shift", 1, 0, 0)


def test_unknown_attack(world):
    with pytest.raises(ValueError, match="attack 'harmfull' is unknown; expected one of harmful, identity-shift"):
        attacks.upload(world, "harmfull", 1, 0, 0)


def test_more_benign_rows_than_the_policy_holds(world):
    with pytest.raises(ValueError, match="276 examples asked for, but the policy holds 275"):
        attacks.upload(world, "harmful", 0, 276, 0)
