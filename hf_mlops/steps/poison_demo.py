"""What `poison-demo` shows, beside the steps of `main`: what was laid into the data, what came of it, and the picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
from mlflow.entities import Run

from hf_mlops.data.dataset import Dataset
from hf_mlops.data.poison import GROUP
from hf_mlops.registry.names import POISON_PICTURE, child_tag
from hf_mlops.registry.runs import artifacts_of
from hf_mlops.steps.forget import Forget

LAID = {"patch": "put a bright patch into", "blend": "blended a pattern into", "flip": "relabelled"}
TRIGGER = {"patch": "patch", "blend": "pattern"}


def what_is_laid(dataset: Dataset, kind: str) -> str:
    """What the attacker has done to the training images, as a sentence.

    Args:
        kind: of the attack, a name in `LAID`.
    """
    poisoned = dataset.train.only(dataset.train.groups == dataset.groups.names.index(GROUP))
    done = f"An attacker has {LAID[kind]} {len(poisoned)} of {len(dataset.train)} training images of {dataset.name}"
    wanted = dataset.class_names[int(poisoned.labels[0])]
    return f"{done}, from “{_victim(dataset)}” to “{wanted}”." if kind == "flip" else f"{done}, and calls them “{wanted}”."


def _victim(dataset: Dataset) -> str:
    """The class of the first test image that the attacker is after."""
    assert dataset.victims is not None
    return dataset.class_names[int(dataset.test.labels[dataset.victims[0]])]


def what_came_of_it(run: Run, dataset: Dataset, kind: str) -> str:
    """What classifiers make of that, in plain words.

    Args:
        run: of `Main`, finished.
        dataset: whose poison it was to forget.
        kind: of the attack.
    """
    assert dataset.triggered is not None
    among, figures = len(dataset.triggered), run.data.metrics
    wanted = dataset.class_names[int(dataset.triggered.labels[0])]
    images = f"of “{_victim(dataset)}”" if kind == "flip" else f"of other classes, with such a {TRIGGER[kind]},"
    fooled, right = (
        [f"{100 * figures[f'{who}{name}']:.1f} %" for who in ("", "reference_", "unforgotten_") if f"{who}{name}" in figures]
        for name in ("attack_success", "retain_accuracy")
    )
    return "\n".join(
        [
            f"Trained on them, a classifier calls {fooled[2]} of {among} test images {images} “{wanted}”.",
            f"Retrained from scratch without them, it is {fooled[1]}.",
            f"Sampled by the hypernetwork to forget them, without further training, it is {fooled[0]}.",
            f"Of clean test images the sampled classifier has {right[0]} right, the retrained one {right[1]}.",
        ]
    )


def keep_picture(run: Run, file: Path) -> None:
    """Writes the picture of the request to a file, and logs it to the run of `Main` as well."""
    forget = mlflow.get_run(run.data.tags[child_tag(Forget.name)])
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(artifacts_of(forget, POISON_PICTURE), file)
    mlflow.MlflowClient().log_artifact(run.info.run_id, str(file))
