"""Which guest image holds which runtime, and that each family's is found by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from alcove.cli.app import root
from alcove.errors import InvalidRequest
from alcove.functions.runtimes import resolve
from alcove.images import guest, guest_packages
from alcove.images.families import Family
from alcove.sandbox.guest_images import GuestImages
from alcove.sandbox.protocol import Runtime


def pretend(images: Path, family: Family) -> str:
    """Put an image of this version there, as far as looking for one can tell."""
    digest = f"{family}-digest"
    folder = images / family.folder / digest
    folder.mkdir(parents=True)
    for name in ("vmlinuz", "initrd", "root.squashfs"):
        (folder / name).write_text("x")
    manifest = {"digest": digest, "key": guest._image_key(family), "kernel": "6.1"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return digest


def test_every_runtime_has_a_family_and_a_name() -> None:
    assert {runtime for runtime in Runtime if runtime.family is not Family.BASE} == {Runtime.JAVA, Runtime.PHP}
    assert resolve("java17") is Runtime.JAVA
    assert resolve("php8.2") is Runtime.PHP


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("php7.2", "php8.2"), ("java8.al2", "java17"), ("nodejs12", "nodejs18.x"), ("go1.x", "provided.al2023")],
)
def test_other_releases_are_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InvalidRequest, match="is not supported") as caught:
        resolve(name)
    assert nearest in caught.value.hint


def test_families_do_not_find_each_others_images(tmp_path: Path) -> None:
    pretend(tmp_path, Family.JAVA)
    assert guest.find_guest_image(tmp_path, Family.BASE) is None
    assert guest.find_guest_image(tmp_path, Family.PHP) is None
    base = pretend(tmp_path, Family.BASE)
    found = guest.find_guest_image(tmp_path)
    assert found is not None
    assert found.digest == base
    images = GuestImages(tmp_path, found)
    assert images.digest(Runtime.NODE) == base
    assert images.digest(Runtime.JAVA) == "java-digest"
    assert images.digest(Runtime.PHP) == "no php image"
    images.remove_others()
    assert guest.find_guest_image(tmp_path, Family.JAVA) is not None


def test_the_image_of_a_runtime_is_built_by_name(tmp_path: Path) -> None:
    pretend(tmp_path / "images", Family.PHP)
    state = ["--state", str(tmp_path)]
    built = CliRunner().invoke(root, ["image", "build", "--runtime", "php8.2", "--json", *state])
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["digest"] == "php-digest"
    listed = CliRunner().invoke(root, ["image", "list", "--json", *state])
    assert [(one["family"], one["current"]) for one in json.loads(listed.stdout)] == [("php", True)]
    refused = CliRunner().invoke(root, ["image", "build", "--runtime", "cobol", *state])
    assert isinstance(refused.exception, InvalidRequest)


def test_apt_is_given_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is relative it reads from the root: a state folder that is named so could build nothing."""
    monkeypatch.chdir(tmp_path)
    apt = guest_packages.Apt(Path("state/apt"), print)
    assert f'Dir::State "{tmp_path}/state/apt";' in apt.config.read_text()
