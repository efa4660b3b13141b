from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hf_mlops import Hypernetwork, Population
from hf_mlops.base import artifact
from hf_mlops.base.errors import DamagedArtifact, OutOfReach


def write(folder: Path) -> Path:
    with artifact.whole_directory(folder) as partial:
        artifact.write(partial, "thing", {"tensor": np.arange(1000.0)}, {"config": {"sizes": (1, 2)}})
    return folder


def test_tensors_and_description_come_back(tmp_path: Path) -> None:
    arrays, about = artifact.read(write(tmp_path / "made"), "thing")
    np.testing.assert_array_equal(arrays["tensor"], np.arange(1000.0))
    assert about == {"config": {"sizes": [1, 2]}}


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "json"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    file = write(tmp_path / "made") / "thing.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[:-8])
    elif damage == "altered":
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    else:
        file.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match=r"thing\.safetensors"):
        artifact.read(tmp_path / "made", "thing")


@pytest.mark.parametrize("kind", [Population, Hypernetwork])
def test_what_is_not_there_is_refused_by_name(tmp_path: Path, kind: type) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        kind.load(tmp_path)  # type: ignore[attr-defined]


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = write(tmp_path / "made")
    before = (folder / "thing.json").read_bytes()
    with pytest.raises(KeyboardInterrupt), artifact.whole_directory(folder) as partial:
        (partial / "thing.json").write_text("half")
        raise KeyboardInterrupt
    assert (folder / "thing.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_text_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a" / "b.csv"
    artifact.whole_file(file, "Größe")
    assert file.read_bytes() == "Größe".encode()

    def full(path: Path, *arguments: object, **options: object) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutOfReach, match=r"could not write .*b.csv: .*No space left on device; nothing was kept"):
        artifact.whole_file(file, "other")
    assert file.read_bytes() == "Größe".encode() and list(file.parent.iterdir()) == [file]


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_there(tmp_path: Path) -> None:
    """The process may write no file over 2 kB, so no compiled code (-B): the system refuses the rest as a full disk would."""
    folder = write(tmp_path / "made")
    before = (folder / "thing.safetensors").read_bytes()
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_artifact, pathlib; "
    code += f"test_artifact.write(pathlib.Path({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert done.returncode != 0
    assert f"OutOfReach: could not write {folder}" in done.stderr and "nothing was kept" in done.stderr
    assert (folder / "thing.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_seal_covers_every_byte_of_the_tensors(tmp_path: Path) -> None:
    folder = write(tmp_path / "made")
    about = json.loads((folder / "thing.json").read_text())
    assert about["sha256"] == artifact.sha256((folder / "thing.safetensors").read_bytes())


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("thing", "run what made it"),
        ("population", "run `mlflow run . -e targets`"),
        ("reference", "run `mlflow run . -e hypernet`"),
        ("hypernetwork", "run `mlflow run . -e hypernet`"),
        ("sampler", "run `mlflow run . -e hypernet`"),
    ],
)
def test_a_file_of_another_format_is_refused_with_what_rebuilds_it(tmp_path: Path, name: str, again: str) -> None:
    artifact.write(tmp_path, name, {"x": np.zeros(2)}, {})
    file = tmp_path / f"{name}.json"
    file.write_text(file.read_text().replace('"format": 8', '"format": 4'))
    with pytest.raises(DamagedArtifact, match=rf"{name}\.safetensors has format 4; allowed: 8: {again} again"):
        artifact.read(tmp_path, name)
