"""Membership attacks by hand-made answers, and on targets that really learnt few images by heart."""

from __future__ import annotations

from math import isnan, log

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.membership import only_few
from hf_mlops import Dataset, ForgetSpec, PopulationConfig, Target, retrain
from hf_mlops.audit.attack_table import OVERFITTED, SAMPLED, attack_table
from hf_mlops.audit.controls import MASKED, ORIGINAL, RETRAINED
from hf_mlops.audit.detection import AUC, RATES, detection, interval
from hf_mlops.audit.exposure import Exposed, Shown, exposed
from hf_mlops.audit.group_membership import GroupJudge, group_evidence
from hf_mlops.audit.membership import ATTACKS, CALLED, correctness, entropy, modified_entropy, retained_members
from hf_mlops.base.errors import BadRequest
from hf_mlops.population.outputs import Outputs

NAMES = ("a", "b", "c")
ONE, TENTH = RATES


def spec(text: str) -> ForgetSpec:
    return ForgetSpec.parse(text, NAMES)


def shown(*answers: tuple[float, float, float], label: int = 0, times: int = 1) -> Shown:
    """Each of the answers to as many images of one class."""
    rows = torch.tensor(answers).repeat(times, 1)
    return Shown(rows.log(), torch.full((len(rows),), label))


SURE, UNSURE = shown((0.98, 0.01, 0.01), (0.96, 0.02, 0.02), times=10), shown((0.5, 0.3, 0.2), (0.6, 0.2, 0.2), times=10)


def test_detection_counts_pairs_and_what_few_wrong_calls_find() -> None:
    draw = np.random.default_rng(0)
    others, members = draw.permutation(1000.0 + np.arange(1000)), 1500.5 + 100 * np.arange(10)
    found = detection(members, others)
    assert found[AUC] == pytest.approx((members[:, None] > others).mean())
    assert found[ONE] == 0.5  # of 1000 others ten are at 1990 or above, and five members are above 1989
    assert found[TENTH] == 0.5  # one is at 1999
    assert detection(members - 100, others) | {AUC: 0} == {AUC: 0, ONE: 0.4, TENTH: 0.4}


def test_detection_is_what_scikit_learn_finds() -> None:
    draw = np.random.default_rng(0)
    members, others = draw.normal(1, 1, 300), draw.normal(0, 1, 1500)
    found, truth = detection(members, others), np.repeat([1, 0], [300, 1500])
    wrongly, rightly, _ = roc_curve(truth, np.concatenate([members, others]))
    assert found[AUC] == pytest.approx(roc_auc_score(truth, np.concatenate([members, others])))
    assert found[ONE] == pytest.approx(np.interp(0.01, wrongly, rightly), abs=0.01)
    assert found[ONE] == (members > np.sort(others)[-16]).mean()  # 15 of 1500 are wrongly called
    assert found[TENTH] == (members > np.sort(others)[-2]).mean()


@pytest.mark.parametrize(("count", "measured"), [(99, []), (100, [ONE]), (999, [ONE]), (1000, [ONE, TENTH])])
def test_a_rate_that_so_few_others_cannot_show_is_no_number(count: int, measured: list[str]) -> None:
    found = detection(np.ones(3), np.zeros(count))
    assert [figure for figure in RATES if not isnan(found[figure])] == measured
    assert found[AUC] == 1


def test_an_interval_holds_the_mean_and_narrows() -> None:
    values = np.random.default_rng(0).normal(2, 1, 400)
    low, high = interval(values)
    assert low < values.mean() < high and high - low == pytest.approx(4 / 20, rel=0.15)  # two deviations to each side
    assert all(map(isnan, interval(values[:1]))) and all(map(isnan, interval(np.array([1, np.nan]))))


def test_features_of_answers_by_hand() -> None:
    answers = shown((0.5, 0.25, 0.25), (0.25, 0.75, 0.0))
    assert correctness(answers)[:, 0].tolist() == [1, 0]
    assert entropy(answers)[0, 0].item() == pytest.approx(1.5 * log(2))
    wanted = [0.5 * log(2) + 2 * 0.25 * log(4 / 3), 0.75 * log(4) + 0.75 * log(4)]
    assert modified_entropy(answers)[:, 0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_features_of_a_masked_class_are_finite() -> None:
    answers = shown((0.0, 0.9, 0.1))
    assert modified_entropy(answers).item() == pytest.approx(-log(1e-6) + 0.9 * log(10) + 0.1 * -log(0.9), rel=1e-4)
    assert answers.losses.item() == pytest.approx(-log(1e-6))


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "SVC, correctness"])
def test_an_attack_finds_members_that_are_answered_as_retained_members_are(name: str) -> None:
    found = ATTACKS[name].on(Exposed(SURE, UNSURE, SURE, UNSURE))
    assert found[AUC] == 1 and found[CALLED] == 1


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_finds_nothing_where_members_are_answered_as_others_are(name: str) -> None:
    found = ATTACKS[name].on(Exposed(SURE, UNSURE, UNSURE, UNSURE))
    assert found[AUC] == 0.5
    assert name == "SVC, correctness" or found[CALLED] == 0  # all are right, which tells nothing


def test_correctness_finds_members_where_others_are_answered_wrongly() -> None:
    wrong = shown((0.1, 0.8, 0.1), times=20)
    assert ATTACKS["SVC, correctness"].on(Exposed(SURE, wrong, SURE, wrong))[AUC] == 1


def test_retained_members_are_found_by_their_loss_and_forgotten_ones_count_nothing() -> None:
    assert retained_members(Exposed(SURE, UNSURE, UNSURE, SURE))[AUC] == 1
    assert retained_members(Exposed(UNSURE, UNSURE, SURE, UNSURE))[AUC] == 0.5


def test_overfitted_targets_are_found_by_every_attack_but_one(digits: Dataset) -> None:
    """Whole vectors of probabilities have another most probable class in D_f than in D_r, where that attack learns."""
    cut = only_few(digits, 15)
    assert len(cut.train) == 150 and len(cut.train) + len(cut.test) == len(digits.train) + len(digits.test)
    config = PopulationConfig(weight_decay=0.0, weight_noise=0.0, train_steps=500, batch_size=64)
    nothing = torch.zeros(1, 10, dtype=torch.bool)
    weights, target = retrain(config, cut, nothing, 0, "cpu", 1), Target.for_dataset("mlp-16", cut)
    forgets = [ForgetSpec.of([group], digits.groups.names) for group in range(10)]
    seen = [one for forget in forgets for one in exposed(target, weights, cut.identity, cut, forget)]
    found = pd.DataFrame([{name: attack.on(one)[AUC] for name, attack in ATTACKS.items()} for one in seen]).mean()
    assert found.drop(["SVC, correctness", "SVC, probabilities"]).min() > 0.7
    assert found["SVC, correctness"] > 0.52 and found["SVC, probabilities"] < 0.6
    assert np.mean([retained_members(one)[AUC] for one in seen]) > 0.7
    with pytest.raises(BadRequest, match="the one given is"):
        exposed(target, weights, digits.identity, cut, forgets[0])
    fewer = only_few(digits, 9)
    with pytest.raises(BadRequest, match=r"with 81, \d+, 9, \d+ images .* on 0 says nothing; allowed: at least 10 of each"):
        exposed(target, weights, fewer.identity, fewer, forgets[0])


def test_exposed_parts_are_training_and_test_images_of_both_sets_and_a_mask_answers_no_forgotten_class(digits: Dataset) -> None:
    target = Target.for_dataset("mlp-16", digits)
    forget = ForgetSpec.of([3, 5], digits.groups.names)
    (one,) = exposed(target, target.initial_weights(0)[None], digits.identity, digits, forget, masked=True)
    away = [(split.labels == 3) | (split.labels == 5) for split in (digits.train, digits.test)]
    labels = [digits.train.labels[~away[0]], digits.test.labels[~away[1]], digits.train.labels[away[0]]]
    for part, wanted in zip(one.parts, [*labels, digits.test.labels[away[1]]], strict=True):
        assert torch.equal(part.labels, wanted)
        given = part.log_probabilities.exp()
        assert given[:, [3, 5]].max() == 0 and torch.allclose(given.sum(1), torch.ones(len(given)))


def found(**kinds: list[list[float]]) -> pd.DataFrame:
    """AUCs of one attack, by kind, spec and classifier."""
    return pd.DataFrame(
        [
            {
                "attack": "one",
                "kind": kind,
                "forget": str(forget),
                "model": model,
                AUC: auc,
                ONE: np.nan,
                TENTH: np.nan,
                CALLED: 1.0,
            }
            for kind, specs in kinds.items()
            for forget, models in enumerate(specs)
            for model, auc in enumerate(models)
        ]
    )


def test_a_table_pairs_classifiers_and_says_what_an_attack_could_have_found() -> None:
    retrained = [[0.5, 0.52], [0.5, 0.48]]
    kinds = {
        ORIGINAL: [[0.6, 0.62], [0.6, 0.58]],
        MASKED: retrained,
        SAMPLED: [[0.51, 0.53], [0.47, 0.45]],
        RETRAINED: retrained,
    }
    table = attack_table(found(**kinds, **{OVERFITTED: [[0.4, 0.6], [0.5, 0.5]]})).set_index("kind")
    assert table.index.tolist() == [OVERFITTED, ORIGINAL, MASKED, SAMPLED, RETRAINED]
    less = table[f"{AUC} less retrained"]
    assert less.to_dict() == pytest.approx({OVERFITTED: 0, ORIGINAL: 0.1, MASKED: 0, SAMPLED: -0.01, RETRAINED: 0})
    sampled = table.loc[SAMPLED]
    assert sampled["worst spec"] == pytest.approx(-0.03)
    assert sampled["worst by chance"] == pytest.approx(0)  # within a spec every pair differs alike
    assert -0.031 < sampled[f"{AUC} less, low"] < -0.01 < sampled[f"{AUC} less, high"] < 0.011
    assert table["informative"].all() and table["a mask passes"].all() and not table["finds overfitting"].any()
    assert table[f"{ONE} less retrained"].isna().all()


def test_an_attack_that_finds_nothing_on_the_original_is_not_informative() -> None:
    nothing = [[0.5, 0.52], [0.5, 0.48]]
    table = attack_table(found(**{ORIGINAL: nothing, RETRAINED: nothing}))
    assert not table["informative"].any()
    assert table["finds overfitting"].isna().all() and table["a mask passes"].isna().all()


@pytest.mark.parametrize(
    ("mask", "retrained", "passes"),
    [
        (0.6, 0.5, False),
        (0.4, 0.5, True),  # a mask that looks less like a member than a retrained classifier is not found
        (0.6, 0.6, True),
        (0.5, 0.4, True),  # it gives no image its class, so that nothing tells images apart
    ],
)
def test_a_mask_passes_unless_it_is_found_by_more_than_chance_and_more_than_retrained(
    mask: float, retrained: float, passes: bool
) -> None:
    kinds = {ORIGINAL: [[0.6, 0.6]], MASKED: [[mask] * 2], RETRAINED: [[retrained] * 2]}
    assert attack_table(found(**kinds))["a mask passes"].eq(passes).all()


@pytest.mark.parametrize("missing", [ORIGINAL, RETRAINED])
def test_an_attack_without_a_control_is_refused(missing: str) -> None:
    kinds = {kind: [[0.5, 0.5]] for kind in (ORIGINAL, SAMPLED, RETRAINED) if kind != missing}
    with pytest.raises(BadRequest, match=f"the attack 'one' has no control: there is no {missing} classifier among"):
        attack_table(found(**kinds))


def classifiers(of_a: tuple[float, float, float], count: int, seed: int) -> Outputs:
    """Classifiers that know b and c and answer so, more or less, to images of a; two images of each class."""
    noise = 0.1 * torch.randn(count, 6, 3, generator=torch.Generator().manual_seed(seed))
    known = torch.tensor([of_a, of_a, *[(0.02, 0.9, 0.08)] * 2, *[(0.02, 0.08, 0.9)] * 2])
    labels = torch.arange(3).repeat_interleave(2)
    return Outputs.of((known.log() + noise).log_softmax(-1), labels, labels, 3)


def test_a_judge_of_classes_tells_who_kept_one_and_no_mask_hides_it() -> None:
    original, retrained = (0.9, 0.08, 0.02), (0.02, 0.2, 0.78)  # an a looks like a b to whom knew it, else like a c

    def seen(answer: tuple[float, float, float], seed: int) -> torch.Tensor:
        return group_evidence(classifiers(answer, 20, seed), spec("a"))

    judge = GroupJudge(seen(original, 0), seen(retrained, 1))
    masked = group_evidence(classifiers(original, 20, 2).without(torch.tensor(spec("a").mask)), spec("a"))
    torch.testing.assert_close(masked, seen(original, 2))
    assert judge.beliefs(masked).min() > 0.9 > 0.1 > judge.beliefs(seen(retrained, 3)).max()
    assert detection(judge.scores(masked), judge.scores(seen(retrained, 3)))[AUC] == 1
    assert judge.way(masked, masked, seen(retrained, 3)) == 1 and judge.way(seen(retrained, 3), masked, seen(retrained, 3)) == 0
    between = judge.way(group_evidence(classifiers((0.46, 0.27, 0.27), 20, 6), spec("a")), masked, seen(retrained, 3))
    assert 0.4 < between < 0.6
    blind = GroupJudge(seen(retrained, 4), seen(retrained, 5))  # has nothing to learn from
    assert 0.25 < detection(blind.scores(seen(retrained, 7)), blind.scores(seen(retrained, 8)))[AUC] < 0.75


def test_evidence_of_a_class_is_the_mean_log_probability_among_retained_classes() -> None:
    (evidence,) = group_evidence(classifiers((0.6, 0.3, 0.1), 1, 0), spec("a"))
    answers = classifiers((0.6, 0.3, 0.1), 1, 0).log_probabilities[0, :2].exp()
    shares = answers[:, 1:] / answers[:, 1:].sum(1, keepdim=True)
    torch.testing.assert_close(evidence[0], shares.log().mean(0))


def test_evidence_of_a_customer_is_how_sure_the_right_answers_are_to_each_ones_images() -> None:
    outputs = classifiers((0.6, 0.3, 0.1), 2, 0)
    answers = outputs.log_probabilities.clone()
    answers[1, 0] = torch.tensor([-torch.inf, 0, 0])  # a mask gives the first image its class with no probability at all
    owners = torch.tensor([0, 1, 0, 1, 2, 2])
    found = group_evidence(Outputs.of(answers, outputs.labels, owners, 3), spec("a"))
    right = answers.gather(2, outputs.labels.expand(2, -1).unsqueeze(2))[..., 0]  # (models, images)
    wanted = torch.stack([right[:, owners == owner].mean(1) for owner in range(3)], 1)
    wanted[1, 0] = log(1e-6)
    torch.testing.assert_close(found[..., 0], wanted)


@pytest.mark.parametrize(("asked", "owners"), [("", 0), ("a,b", 0), ("", 1), ("a,b,c", 1)])
def test_a_judge_of_groups_needs_one_forgotten_and_enough_retained(asked: str, owners: int) -> None:
    outputs = classifiers((0.6, 0.3, 0.1), 2, 0)
    outputs = Outputs.of(outputs.log_probabilities, outputs.labels, outputs.groups.roll(owners), 3)
    with pytest.raises(BadRequest, match="is not allowed here; allowed: to forget a group, and to retain two classes or one"):
        group_evidence(outputs, ForgetSpec(tuple(NAMES.index(name) for name in asked.split(",") if name), NAMES))


def test_too_few_shadow_models_are_refused() -> None:
    evidence = group_evidence(classifiers((0.6, 0.3, 0.1), 6, 0), spec("a"))
    with pytest.raises(BadRequest, match="6 and 4 shadow models are too few; allowed: at least 5 of each"):
        GroupJudge(evidence, evidence[:4])
