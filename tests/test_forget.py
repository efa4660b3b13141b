"""What `forget` prints and logs of the sample that it keeps."""

from __future__ import annotations

from dataclasses import replace

import mlflow
import pytest
import torch
from by_hand import measured

from hf_mlops import Audit, Dataset, ForgetSpec, load_dataset
from hf_mlops.audit.measure import Measured
from hf_mlops.population.outputs import Outputs
from hf_mlops.registry.runs import step_run
from hf_mlops.steps.forget import on_the_forget_set, sets_table, show_backdoor

RETRAINED, ORIGINAL = measured("b", "1 00 1111", "1 00 1111"), measured("b", "1 11 1111")
LEARNT = torch.tensor([False, True, True, False, False, False, False])  # both images of b are training images


def of_training_images(one: Measured) -> Measured:
    return replace(one, outputs=replace(one.outputs, apart=LEARNT))


def test_of_a_class_it_says_how_sure_an_accuracy_is_and_how_far_answers_are_from_a_mask() -> None:
    masked = replace(ORIGINAL, outputs=ORIGINAL.outputs.without(torch.tensor([True, False])))
    said = on_the_forget_set(Audit(measured("b", "1 00 1111"), RETRAINED, masked), 0).splitlines()
    assert said[0] == "accuracy on the forget set: at most 0.7764 with 95 % confidence, by 2 test images"
    assert said[1].startswith(
        "answers on the forget set: off by 0 % of the way from retrained ones to those with the classes masked ("
    )
    assert len(said) == 2


def test_of_another_group_it_says_by_what_it_is_judged_and_how_far_loss_has_gone_from_the_original() -> None:
    audit = Audit(*map(of_training_images, (measured("b", "1 10 1111"), RETRAINED, ORIGINAL)))
    assert on_the_forget_set(audit, 0).splitlines() == [
        "figures on the forget set are by 2 training images of its own",
        "answers on the forget set: off by 50 % of the way from retrained ones to the original (divergence 0.275, of 0.000 and"
        " 0.549)",
        "loss on the forget set: 0.50 of the way from the original to retrained ones",
    ]


def test_where_nobody_could_tell_it_says_so() -> None:
    audit = Audit(measured("b", "1 00 1111"), measured("b", "1 00 1111", "1 11 1111"), ORIGINAL)
    assert "nothing can be told, since retrained ones are as far from each other as from the original (" in on_the_forget_set(
        audit, 0
    )


def test_without_classifiers_retrained_for_it_answers_are_not_judged() -> None:
    said = on_the_forget_set(Audit(measured("b", "1 00 1111"), measured("b", "1 00 1111"), ORIGINAL), 0)
    assert said.endswith("answers on the forget set: not judged, for want of classifiers retrained without it (-P retrained=8)")


def test_figures_on_training_images_are_not_called_those_of_a_test() -> None:
    whole, learnt = (
        Audit(measured("b", "1 10 1111"), RETRAINED),
        Audit(*map(of_training_images, (measured("b", "1 10 1111"), RETRAINED))),
    )
    kept = ["test accuracy on the retain set", "test loss on the retain set"]
    assert list(sets_table(whole, 0).index) == ["test accuracy on the forget set", "test loss on the forget set", *kept]
    table = sets_table(learnt, 0)
    assert list(table.index) == ["accuracy on the forget set", "loss on the forget set", *kept]
    assert table["sampled"]["accuracy on the forget set"] == 0.5 and table.iloc[0, 1] == 0


@pytest.mark.parametrize("groups", ["poison:patch:0.05", ""])
def test_a_backdoor_is_told_and_pictured_where_there_is_one(
    client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str], groups: str
) -> None:
    data = load_dataset("digits", groups=groups)
    with step_run("forget", "f", {}) as run:
        show_backdoor(data, all_fives(data), 0)
    line = "attack success: 0 % before, 0 % retrained, 0 % after; by 325 test images that the attacker wants called 0\n"
    assert capsys.readouterr().out == line * bool(groups)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["poison.png"] * bool(groups)


def all_fives(data: Dataset) -> Audit:
    """Of classifiers that call every image a 5."""
    split, spec = data.audited, ForgetSpec.of([1], data.groups.names)
    answers = torch.full((1, len(split), 10), 0.05)
    answers[..., 5] = 0.55
    one = Measured(spec, Outputs.of(answers.log(), split.labels, split.groups, len(data.groups), split.apart))
    return Audit(one, one, one)
