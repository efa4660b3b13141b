"""What things are called in MLflow. Whatever is there already bears these names: to change one is to lose sight of it."""

from __future__ import annotations

# registered models
HYPERFORGET = "hyperforget"
CLASSIFIER = "hyperforget-classifier"

CHAMPION = "champion"  # alias: the hypernetwork in production
CHALLENGER = "challenger"  # alias: the one that may take its place

# tags of runs, registered models and versions
STEP = "hf_mlops.step"  # an entry point's name
FINGERPRINT = "hf_mlops.fingerprint"  # of all that decided its result
CODE = "hf_mlops.code"  # digest of the package's source
DATASET = "hf_mlops.dataset"  # name of the data that a population was trained on
DATA_DIGEST = "hf_mlops.data_digest"  # of that data
ARCHITECTURE = "hf_mlops.architecture"  # of a population
SCOPE = "hf_mlops.scope"  # of a population
GROUPING = "hf_mlops.groups"  # how its data were told to be grouped; absent: as they come
WHOLE = "hf_mlops.whole"  # of a version: "false" until it is registered to the end, then "true"
PROCESS = "hf_mlops.process"  # who is at work on it
ALIVE = "hf_mlops.alive"  # when that last gave a sign of life, seconds since 1970
RESUMABLE = "hf_mlops.resumable"  # "true": training can go on from it
CHECKPOINT = "hf_mlops.checkpoint"  # the artifact folder to go on from
VERSION = "hf_mlops.version"  # the version of a registered model that it made, or that answers it
HYPERNET_RUN = "hf_mlops.hypernet_run"  # the run that trained the hypernetwork; of a run of `main`: its run of that step
TARGETS_RUN = "hf_mlops.targets_run"  # the run that trained the population; likewise
STANDING = "hf_mlops.standing"  # of a hypernetwork: "challenger" until it is champion for the first time, then "champion"
CHAMPION_SINCE = "hf_mlops.champion_since"  # when `promote` made it champion, ISO 8601 in UTC
PURGED = "hf_mlops.population_deleted"  # of a run of `targets`: when its population was deleted, ISO 8601 in UTC
WITHDRAWN = "hf_mlops.withdrawn"  # when a version was withdrawn, ISO 8601 in UTC; absent: it was not
WHY = "hf_mlops.withdrawn_reason"  # why it was
SERVED = "hf_mlops.withdrawn_from"  # the aliases that it had until then, joined by commas
FILES = "files_sha256"  # of a version: of the sums of its files, and so of all of them
WEIGHTS = "weights_sha256"  # of a classifier's parameters; of a hypernetwork's file

# tags of a run of `forget`, which is a row of the request log
REQUESTER = "hf_mlops.requester"  # who asked, in the caller's words
PLACE = "hf_mlops.place"  # its place in the log, from 1, with leading zeros: whatever the clock was
SPEC = "hf_mlops.spec"  # the forget spec, as it was typed until it is read
PARAMETERS = "hf_mlops.parameters"  # all else that was asked for, as JSON
HYPERNETWORK = "hf_mlops.hypernetwork"  # the version that was the champion
OUTCOME = "hf_mlops.outcome"  # how it ended
REASON = "hf_mlops.reason"  # why it was refused, or failed

# tags of a version of a classifier
FORGET = "forget"  # its forget spec; also the column of a request
SAMPLED_FROM = "hypernetwork"  # the version that it was sampled from, by name and number
FILE = "file_sha256"  # of its ONNX file

EXPORT_OF = "export.classifier"  # a parameter of a run: the version that `export` has taken out, by name and number

# artifacts of a run, folders but for the last two
POPULATION = "population"
REFERENCE = "reference"
CHECKPOINTS = "checkpoints"  # a folder in it for each step that one was kept at
EXPORTED = "classifier.onnx"  # a file: the classifier that `export` has taken out
POISON_PICTURE = "poison.png"  # a file: what classifiers call the images that an attacker is after


def alias_of(slug: str) -> str:
    """The alias under which the classifier of a forget spec is served, by the spec's slug: `3-5` -> `forget-3-5`.

    It is one that MLflow takes: letters a-z, digits, `-` and `_`, at most 255 of them.
    """
    return f"forget-{slug}"


def child_tag(step: str) -> str:
    """The tag in which a run of `main` names its run of a step: `targets` -> `hf_mlops.targets_run`."""
    return f"hf_mlops.{step}_run"
