"""The entry point `poison-demo`: what it leaves, what it says, whose name it takes, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT, Store, options_of
from matplotlib.image import imread
from mlflow.entities import Metric, Run, RunData, RunInfo

from hf_mlops import Dataset, load_dataset
from hf_mlops.serving.classifier import OnnxClassifier
from hf_mlops.steps.poison_demo import what_came_of_it, what_is_laid

LOOSE = {"max_forget_gap": 1, "max_retain_gap": 1, "max_forget_distance": 1}
SMALL = {"runs": 64, "target_steps": 200, "hypernet_steps": 60, **LOOSE}
OWN = "digits-mlp-16-poison-patch-0-05"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store after one small demo by itself, whose output is kept in demo.txt."""
    store = Store(tmp_path_factory.mktemp("demo"))
    words = [sys.executable, "-m", "projects.poison_demo", *options_of({**SMALL, "output": "shown/here"})]
    environment = {**store.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=store.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (store.folder / "demo.txt").write_text(done.stdout)
    return store


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("empty"))


@pytest.mark.slow
def test_it_says_what_was_done_and_what_came_of_it_as_the_exported_classifier_answers(store: Store) -> None:
    said, data = (store.folder / "demo.txt").read_text(), load_dataset("digits", groups="poison:patch:0.05")
    assert said.startswith(
        "An attacker has put a bright patch into 54 of 1078 training images of digits, and calls them “0”.\n"
    )
    assert "not judged: forgetting clean, which leaves no test image to judge by\n" in said
    classifier = OnnxClassifier.read(store.folder / "shown" / "here" / "forget-poison" / "classifier.onnx")
    assert data.triggered is not None
    fooled = (classifier.logits(data.triggered.images.numpy()).argmax(1) == 0).mean()
    right = (classifier.logits(data.test.images.numpy()).argmax(1) == data.test.labels.numpy()).mean()
    *_, laid, before, retrained, after, clean, where = said.splitlines()
    assert laid == said.splitlines()[0] and where == "The picture of it: shown/here/poison-patch.png"
    assert before.endswith(" % of 325 test images of other classes, with such a patch, “0”.")
    assert after == f"Sampled by the hypernetwork to forget them, without further training, it is {100 * fooled:.1f} %."
    assert clean.startswith(f"Of clean test images the sampled classifier has {100 * right:.1f} % right, the retrained one ")
    (line,) = (line for line in said.splitlines() if line.startswith("attack success: "))
    share = f"{100 * fooled:.1f}".removesuffix(".0")
    assert f", {share} % after; by 325 test images that the attacker wants called 0" in line
    audited = json.loads((store.folder / "shown" / "here" / "forget-poison" / "audit.json").read_text())
    assert float(audited["attack_success"]) == pytest.approx(fooled, abs=1e-4)
    assert f" {100 * float(audited['unforgotten_attack_success']):.1f} % of 325 " in before
    assert f" {100 * float(audited['reference_attack_success']):.1f} %." in retrained
    assert float(audited["reference_attack_success"]) < 0.1 < 0.9 < float(audited["unforgotten_attack_success"])


@pytest.mark.slow
def test_the_picture_is_in_the_output_and_in_the_runs_of_the_request_and_of_the_whole(store: Store) -> None:
    picture = store.folder / "shown" / "here" / "poison-patch.png"
    assert imread(picture).shape[:2] > (400, 800)
    runs = {run.data.tags["hf_mlops.step"]: run for run in store.client.search_runs(["0"])}
    for step, name in (("forget", "poison.png"), ("main", "poison-patch.png")):
        logged = store.client.download_artifacts(runs[step].info.run_id, name, str(store.folder))
        assert Path(logged).read_bytes() == picture.read_bytes()
    assert runs["main"].data.metrics["attack_success"] == runs["forget"].data.metrics["attack_success"]
    pictures = {file.path for file in store.client.list_artifacts(runs["evaluate"].info.run_id) if file.path.endswith("png")}
    assert pictures == {"accuracy_per_group.png", "prompt_alignment.png", "accuracy_over_steps.png"}


@pytest.mark.slow
def test_it_has_a_name_of_its_own_even_where_it_comes_first(store: Store) -> None:
    versions, aliases = store.state()
    names = sorted(name for name, _ in versions)
    assert len(names) == 2 and all(OWN in name for name in names)
    assert sorted(aliases) == [f"{names[0]}@forget-poison", f"{names[1]}@champion"]


@pytest.mark.slow
def test_started_again_it_re_uses_all_and_leaves_the_picture_elsewhere(store: Store) -> None:
    before = store.state()
    done = store.in_process("poison-demo", *options_of({**SMALL, "output": store.folder / "again"}))
    assert done.exit_code == 0 and done.stdout.count("re-used the finished run") == 4, done.stderr
    assert store.state() == before
    first = store.folder / "shown" / "here" / "poison-patch.png"
    assert (store.folder / "again" / "poison-patch.png").read_bytes() == first.read_bytes()


@pytest.mark.slow
def test_a_request_that_leaves_nothing_to_judge_by_is_refused(store: Store) -> None:
    before, (model, *_) = store.state(), sorted({name for name, _ in store.state()[0]}, reverse=True)
    said = store.refusal("forget", forget_class="clean", model=model, **LOOSE)
    assert "forgetting clean leaves no test image to judge what is kept by; allowed: a spec that leaves some" in said
    assert store.state() == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"attack": "worm"}, "'worm' is not one of 'patch', 'blend', 'flip'"),
        ({"share": 0}, "0.0 is not in the range 0<x<1"),
        ({"share": 1}, "1.0 is not in the range 0<x<1"),
        ({"share": "nan"}, "the share 'nan' is not allowed; allowed: a number above 0 and below 1"),
        ({"share": "5%"}, "'5%' is not a valid float"),
        ({"share": 0.0001}, "asks for 0 poisoned images, of 971 that can be; allowed: a share that poisons at least one"),
        ({"share": 0.95}, "asks for 1024 poisoned images, of 971 that can be"),
        ({"dataset": "letters"}, "unknown data set 'letters'"),
        ({"device": "tpu"}, "'tpu' is not one of"),
    ],
)
def test_what_it_cannot_show_is_refused_before_any_work(empty: Store, parameters: dict[str, object], message: str) -> None:
    assert message in empty.refusal("poison-demo", **parameters)
    assert empty.state() == ([], {}) and not empty.client.search_runs(["0"])


@pytest.mark.parametrize(
    ("attack", "share", "laid", "before"),
    [
        (
            "blend",
            "0.05",
            "blended a pattern into 54 of 1078 training images of digits, and calls them “0”.",
            "90.0 % of 325 test images of other classes, with such a pattern, “0”.",
        ),
        (
            "flip",
            "0.3",
            "relabelled 33 of 1078 training images of digits, from “1” to “7”.",
            "90.0 % of 37 test images of “1” “7”.",
        ),
    ],
)
def test_every_attack_and_what_came_of_it_is_told_in_plain_words(attack: str, share: str, laid: str, before: str) -> None:
    data = load_dataset("digits", groups=f"poison:{attack}:{share}")
    assert what_is_laid(data, attack) == f"An attacker has {laid}"
    figures = {"attack_success": 0.25, "reference_attack_success": 0.125, "unforgotten_attack_success": 0.9}
    figures |= {"retain_accuracy": 0.5, "reference_retain_accuracy": 0.625}
    run = Run(
        RunInfo("r1", "0", "user", "FINISHED", 0, 0, "active"), RunData([Metric(*item, 0, 0) for item in figures.items()])
    )
    assert what_came_of_it(run, data, attack).splitlines() == [
        f"Trained on them, a classifier calls {before}",
        "Retrained from scratch without them, it is 12.5 %.",
        "Sampled by the hypernetwork to forget them, without further training, it is 25.0 %.",
        "Of clean test images the sampled classifier has 50.0 % right, the retrained one 62.5 %.",
    ]


def test_victims_are_the_test_images_that_were_triggered(digits: Dataset) -> None:
    data = load_dataset("digits", groups="poison:blend:0.05")
    assert data.triggered is not None and data.victims is not None and digits.victims is None
    pattern = data.triggered.images - 0.8 * data.test.images[data.victims]
    torch.testing.assert_close(pattern, pattern[:1].expand_as(pattern))
    assert torch.equal(data.victims, (digits.test.labels != 0).nonzero()[:, 0])
