"""The user's own images in a folder for each class, looked through in full before any is read."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.given import Assignment, Given
from hf_mlops.data.group_files import read_group_file
from hf_mlops.data.image_files import ENDINGS, read_images
from hf_mlops.data.splitting import SPLITS, check_classes, divide, split_called

ALLOWED = "PATH/CLASS/*, or PATH/train/CLASS/* and the same with val, test or both for train"
GROUP_FILE = "groups.csv"
FOLDER = "folder"  # groups are folders inside classes
ENDINGS_TOLD = 10  # of files that are passed over


def read_folder(path: str, groups: str = "") -> Given:
    """Images in a folder for each class: PATH/CLASS/*, or PATH/train/CLASS/* with PATH/val/CLASS/*, PATH/test/CLASS/* or both.

    Splits may be called in any of the ways of `SPLITS`. Names that begin with a dot are passed over at any depth. Images are
    those of `read_images`. A file PATH/groups.csv says which groups they are in, see `read_group_file`.

    Args:
        groups: `folder`: those of PATH/CLASS/GROUP/*; of one name in several classes they are one group, and images of
            PATH/test/CLASS/* beside them are of none. Empty: those of groups.csv, if it is there. Else the folder's own are
            not looked at.

    Warns of files that are passed over: those of other endings than `ENDINGS`, and images in no class.

    Raises:
        BadRequest: no such folder, or one that cannot be listed; fewer than two classes; an empty class, or one too small to be
            split; splits of different classes, or without training images; class names that a forget spec cannot tell apart;
            a broken image; several sizes; an image in no group.
    """
    root = Path(path).expanduser().resolve()
    name = f"folder:{root}"
    if not root.is_dir():
        raise BadRequest(f"{name}: there is no such folder; allowed: {ALLOWED}")
    try:
        splits = _split_folders(name, root)
        classes = _folders(splits["train"])
        files = {split: _labelled_files(name, folder, classes) for split, folder in splits.items()}
        _tell_of_passed_over(name, {root, *splits.values()}, [file for some in files.values() for file, _ in some])
        if groups != FOLDER:
            _tell_of_inner_folders(name, splits["train"], classes)
    except OSError as error:
        raise BadRequest(f"{name} cannot be read: {error}") from error
    images = {split: [(file, label) for file, label in some if _is_image(file)] for split, some in files.items()}
    labels = {split: np.array([label for _, label in some], np.int64) for split, some in images.items()}
    for split, folder in splits.items():
        for empty in set(range(len(classes))) - set(labels[split].tolist()):
            raise BadRequest(f"{name}: there is no image in {folder / classes[empty]}; allowed: {', '.join(ENDINGS)}")
    own = labels["train"], labels.get("validation"), labels.get("test")
    check_classes(name, classes, *own)
    everything = [file for some in images.values() for file, _ in some]
    given = replace(
        divide(name, classes, lambda: read_images(name, everything), *own),
        files=tuple(Path(file).relative_to(root).as_posix() for file in everything),
    )
    if groups == FOLDER:
        return replace(given, own=_inner_folders(given, depth=2 if splits["train"] == root else 3))
    if not groups and (root / GROUP_FILE).is_file():
        return replace(given, own=read_group_file(root / GROUP_FILE, given))
    return given


def _inner_folders(given: Given, depth: int) -> Assignment:
    """The folder of each image that is inside that of its class, `depth` folders from the data set's own on."""
    parts = [file.split("/")[:-1] for file in given.files]
    texts = [folders[depth - 1] if len(folders) >= depth else None for folders in parts]
    if None in texts[: given.listed]:
        file = given.files[texts.index(None)]
        raise BadRequest(
            f"{given.name}: {file} is in no folder of a group; allowed: PATH/CLASS/GROUP/*, or PATH/train/CLASS/GROUP/*"
        )
    return Assignment.of_texts("folders inside classes", texts)


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _split_folders(name: str, root: Path) -> dict[str, Path]:
    """The folders of classes, by split in the order of SPLITS; `root` as `train` where there are no splits."""
    folders = _folders(root)
    own = [folder for folder in folders if split_called(folder)]
    if not own or (len(own) == 1 and len(_folders(root / own[0])) < 2):  # a class: train, among car and ship
        return {"train": root}
    splits = {split: root / folder for split in SPLITS for folder in own if split_called(folder) == split}
    if "train" not in splits or len(splits) < max(2, len(folders)):
        raise BadRequest(f"{name} holds {', '.join(folders)}; allowed: {ALLOWED}")
    classes = {split: set(_folders(folder)) for split, folder in splits.items()}
    if odd := set().union(*classes.values()) - set(classes["train"]).intersection(*classes.values()):
        raise BadRequest(
            f"{name}: {' and '.join(folders)} must hold the same classes; not in each of them: {', '.join(sorted(odd))}"
        )
    return splits


def _walk(folder: Path) -> list[str]:
    """Every file in a folder, in alphabetical order; links are followed, and hidden names passed over at any depth."""

    def stop(error: OSError) -> None:
        raise error

    found = []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=stop):
        folders[:] = [inner for inner in folders if not inner.startswith(".")]
        found.append((place, sorted(file for file in files if not file.startswith("."))))
    return [os.path.join(place, file) for place, files in sorted(found) for file in files]


def _is_image(file: str) -> bool:
    return file.lower().endswith(ENDINGS)


def _labelled_files(name: str, folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """Every file of each class, in alphabetical order, with the index of its class."""
    if not classes:
        raise BadRequest(f"{name}: there is no folder in {folder}; allowed: a folder for each class")
    return [(file, label) for label, class_name in enumerate(classes) for file in _walk(folder / class_name)]


def _tell_of_passed_over(name: str, above: set[Path], files: list[str]) -> None:
    """Warns of what is not read.

    Args:
        above: folders that hold folders of classes, or of splits.
        files: all that are in a class.
    """
    others = Counter(Path(file).suffix.lower() or "no ending" for file in files if not _is_image(file)).most_common()
    if others:
        told = [f"{count} of {ending}" for ending, count in others[:ENDINGS_TOLD]] + ["…"] * (len(others) > ENDINGS_TOLD)
        warnings.warn(f"{name}: files that are passed over: {', '.join(told)}; read are {', '.join(ENDINGS)}", stacklevel=3)
    beside = [file for folder in above for file in folder.iterdir() if _is_image(file.name) and not file.name.startswith(".")]
    if lost := sorted(str(file) for file in beside if file.is_file()):
        warnings.warn(f"{name}: {len(lost)} images in no class are passed over, such as {lost[0]}", stacklevel=3)


def _tell_of_inner_folders(name: str, folder: Path, classes: list[str]) -> None:
    """Warns where every class has the same folders in it: either may be splits under names that are not known."""
    inner = {tuple(_folders(folder / class_name)) for class_name in classes}
    if len(inner) == 1 and len(same := inner.pop()) > 1:
        warnings.warn(
            f"{name}: the classes read are {', '.join(classes)}, although each of them holds {', '.join(same)}; for splits,"
            f" allowed: {ALLOWED}; for groups, groups={FOLDER}",
            stacklevel=3,
        )
