"""Settings: precedence, types, errors that name their source."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.settings import Address, Setting, Settings, load_settings, settings

ROWS = {one.name: one for one in settings()}


def write(folder: Path, text: str) -> Path:
    path = folder / "alcove.toml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_rows() -> None:
    assert load_settings(environment={}, flags={}) == Settings()


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'pool_python = 2\npool_nodejs = 2\npool_provided = 2\nlog_level = "debug"')
    environment = {"ALCOVE_POOL_PYTHON": "3", "ALCOVE_POOL_NODEJS": "3"}
    chosen = load_settings(file=file, environment=environment, flags={"pool_python": 4})
    assert (chosen.pool_python, chosen.pool_nodejs, chosen.pool_provided) == (4, 3, 2)
    assert chosen.log_level == "debug"


def test_each_type_is_parsed(tmp_path: Path) -> None:
    file = write(tmp_path, 'dns = ["9.9.9.9"]\nisolation_allowed = ["vm"]\nidle_timeout_s = 5')
    environment = {"ALCOVE_LISTEN": "[::1]:0", "ALCOVE_NETWORK_SUBNET": "10.9.0.0/16"}
    chosen = load_settings(file=file, environment=environment, flags={"state": "here"})
    assert chosen.dns == (IPv4Address("9.9.9.9"),)
    assert chosen.isolation_allowed == ("vm",)
    assert chosen.idle_timeout_s == 5.0
    assert chosen.listen == Address("::1", 0)
    assert str(chosen.listen) == "[::1]:0"
    assert chosen.network_subnet == IPv4Network("10.9.0.0/16")
    assert chosen.state == Path.cwd() / "here"
    assert chosen.api_socket == Path("/run/alcove/api.sock")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "9600"),
        ("listen", "127.0.0.1:99999"),
        ("pool_python", "-1"),
        ("pool_python", 1.5),
        ("pool_python", True),
        ("idle_timeout_s", "nan"),
        ("max_sandboxes", 0),
        ("isolation_allowed", "vm,chroot"),
        ("network_subnet", "10.0.0.1/8"),
        ("dns", "example.org"),
        ("dns", 3),
        ("accelerator", "hvf"),
        ("log_level", 3),
        ("state", ""),
    ],
)
def test_a_bad_value_is_refused_with_its_source(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"^{ROWS[name].flag}: ") as caught:
        load_settings(environment={}, flags={name: value})
    assert caught.value.hint


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="pool_pyhton") as caught:
        load_settings(file=write(tmp_path, "pool_pyhton = 1"), environment={}, flags={})
    assert caught.value.hint == "did you mean pool_python?"


def test_a_file_that_is_missing_or_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="does not exist"):
        load_settings(file=tmp_path / "none.toml", environment={}, flags={})
    with pytest.raises(InvalidRequest, match="can't be read"):
        load_settings(file=write(tmp_path, "pool_python ="), environment={}, flags={})


@pytest.mark.parametrize(("folder", "length"), [("run", 100), ("state", 70)])
def test_a_path_too_long_for_sockets_is_refused(folder: str, length: int) -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        load_settings(environment={}, flags={folder: "/" + "x" * length})
    load_settings(environment={}, flags={folder: "/" + "x" * 60})


def test_a_secret_is_never_shown() -> None:
    from alcove.settings import Row

    row = Setting("token", int, 0, Row("A token.", secret=True))
    assert row.show("hunter2") == "(secret)"
    with pytest.raises(InvalidRequest) as caught:
        row.parse("hunter2", "ALCOVE_TOKEN")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ROWS)
def test_what_show_prints_parse_takes(name: str) -> None:
    row = ROWS[name]
    assert row.parse(row.show(row.default), "test") == row.default
    assert row.row.help.endswith(".")


@given(st.text())
def test_no_address_crashes_the_parser(text: str) -> None:
    try:
        load_settings(environment={"ALCOVE_LISTEN": text}, flags={})
    except InvalidRequest:
        pass
