"""Starts after operators changed the setting and the files of the key of agent tokens: tokens stay good."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ct_ops_server.authority.life_cycle import Kind, Step
from ct_ops_server.authority.starting import StartRefusedError
from ct_ops_server.core import replace_lost_key
from real_server import settings_for
from unit.server.starting_world import NOW, Install, audited, known, take

JWT = Kind.JWT


@pytest.fixture
def install(tmp_path: Path) -> Install:
    (tmp_path / "server").mkdir(mode=0o700)
    return Install(settings_for(tmp_path / "server"))


async def test_a_setting_that_points_at_another_key_prepares_it(install: Install) -> None:
    """The key before lies in the data directory: it signs on, and everybody learns of the next one first."""
    (before,) = await install.states(JWT)
    install.name_jwt(install.jwt_file("new.pem"))
    async with install.open() as core:
        states, log = await known(core, JWT), await audited(core)
        published = [each["kid"] for each in core.jwks()["keys"]]
        assert before == core.trust.current.kid
        await take(core, JWT, Step.ACTIVATE)
        await take(core, JWT, Step.RETIRE)
    again = await install.states(JWT)

    assert ["active", "prepared"] == list(states.values())
    assert list(states) == published
    assert ("signing_key.prepared", "server") in log
    assert ["retired", "active"] == list(again.values())
    assert "jwt_key.pem" not in install.files()


async def test_attack_a_removed_setting_makes_no_other_key(install: Install) -> None:
    """Its key is nowhere else, so tokens of the whole fleet would be worth nothing at once."""
    install.name_jwt(file := install.jwt_file("first.pem"))
    before = await install.states(JWT)
    install.name_jwt(None)
    with pytest.raises(StartRefusedError, match="set INGEST_JWT_KEY_FILE to it again"):
        await install.states(JWT)
    assert "jwt_key.pem" not in install.files()
    install.name_jwt(file)

    assert before == await install.states(JWT)


async def test_attack_a_setting_that_is_pointed_elsewhere_replaces_no_key(install: Install) -> None:
    """The key before is nowhere on this host: the file that is named is told from it."""
    install.name_jwt(install.jwt_file("first.pem"))
    await install.states(JWT)
    install.name_jwt(other := install.jwt_file("second.pem"))
    with pytest.raises(StartRefusedError, match="takes nobody's place") as refusal:
        await install.states(JWT)
    install.name_jwt(missing := install.data_dir.parent / "third.pem")
    with pytest.raises(StartRefusedError):
        await install.states(JWT)

    assert str(other) in str(refusal.value)
    assert not missing.exists()


async def test_attack_a_lost_file_makes_no_other_key(install: Install) -> None:
    """Put back, it is as good as before."""
    before = await install.states(JWT)
    shutil.move(install.data_dir / "jwt_key.pem", install.data_dir.parent / "kept.pem")
    with pytest.raises(StartRefusedError, match=r"copy jwt_key\.pem"):
        await install.states(JWT)
    shutil.move(install.data_dir.parent / "kept.pem", install.data_dir / "jwt_key.pem")

    assert before == await install.states(JWT)


async def test_a_start_goes_on_with_the_key_of_the_database(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a rotation was begun the setting may go, or name a file that is gone."""
    install.name_jwt(install.jwt_file("first.pem"))
    await install.rotate(Step.PREPARE, kind=JWT)
    before = await install.states(JWT)
    for named in (None, install.data_dir.parent / "gone.pem"):
        install.name_jwt(named)
        assert before == await install.states(JWT)

    assert "is not there" in caplog.text
    assert "jwt_key.pem" not in install.files()


async def test_an_operators_file_of_a_retired_key_is_ignored(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """Its operator is told to erase it, and it is never touched."""
    install.name_jwt(file := install.jwt_file("first.pem"))
    await install.rotate(Step.PREPARE, Step.ACTIVATE, Step.RETIRE, kind=JWT)
    states = await install.states(JWT)

    assert ["retired", "active"] == list(states.values())
    assert file.exists()
    assert "that is retired, and is ignored" in caplog.text


async def test_a_key_that_nobody_knows_and_nobody_named_is_left_alone(install: Install) -> None:
    """Also in the data directory; with the active one's key in the database the start goes on."""
    await install.rotate(Step.PREPARE, Step.ACTIVATE, kind=JWT)
    before = await install.states(JWT)
    shutil.copy(install.jwt_file("other.pem"), install.data_dir / "jwt_key.pem")

    assert before == await install.states(JWT)
    assert "jwt_key.pem" in install.files()


async def test_a_lost_key_is_replaced_on_command_and_its_tokens_stay_good(install: Install) -> None:
    """Who verifies them needs its public half alone."""
    (before,) = await install.states(JWT)
    (install.data_dir / "jwt_key.pem").unlink()
    name = await replace_lost_key(install.settings, JWT, actor="ada", now=lambda: NOW)
    async with install.open() as core:
        assert {before: "outgoing", name: "active"} == await known(core, JWT)
        assert {before, name} == {each["kid"] for each in core.jwks()["keys"]}
        assert name == core.trust.current.kid
