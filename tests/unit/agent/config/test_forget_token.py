"""The enrolment token leaves the file, and nothing else does."""

from pathlib import Path

import pytest

from ct_ops_agent.config.forget_token import Forgotten, forget_token, without_token
from ct_ops_agent.errors import ConfigError

SECRET = "tok_" + "a" * 32


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            f'# mine\n[agent]\nenrolment_token = "{SECRET}"\ndata_dir = "/d"\n',
            '# mine\n[agent]\ndata_dir = "/d"\n',
        ),
        (f"[agent]\norg_token='{SECRET}' # from Ann\n", "[agent]\n# from Ann\n"),
        (f'[ agent ]\r\n"enrolment_token" = "{SECRET}"\r\n# end\r\n', "[ agent ]\r\n# end\r\n"),
        (f'agent.enrolment_token = "{SECRET}"', ""),
        (f'[agent]\nenrolment_token = "{SECRET}"\norg_token = "{SECRET}"\n[ingest]\n', "[agent]\n[ingest]\n"),
        (
            '[ingest]\naddress = "a:1" # enrolment_token = "x"\n',
            '[ingest]\naddress = "a:1" # enrolment_token = "x"\n',
        ),
        ("", ""),
    ],
)
def test_only_the_token_goes(before: str, after: str) -> None:
    """Both names, both spellings of a key, comments and line ends stay."""
    assert after == without_token(before)


@pytest.mark.parametrize(
    "text",
    [
        f'agent = {{ enrolment_token = "{SECRET}", data_dir = "/d" }}\n',
        f'[agent]\nenrolment_token = """\n{SECRET}"""\n',
        '[agent]\nhostname = """\nenrolment_token = "x"\n"""\n',
    ],
)
def test_what_lines_cannot_tell_is_left_to_a_human(text: str) -> None:
    """A token inside something else, or something else that looks like one."""
    with pytest.raises(ValueError, match="does not stand on a line of its own"):
        without_token(text)


def test_the_file_keeps_its_mode(tmp_path: Path) -> None:
    """And there is no second file left."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\nenrolment_token = "{SECRET}"\n')
    file.chmod(0o640)

    assert Forgotten(removed=True, left_in_comment=False) == forget_token(file)
    assert ("[agent]\n", 0o640) == (file.read_text(), file.stat().st_mode & 0o7777)
    assert [file] == list(tmp_path.iterdir())


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    """Some installations keep the file elsewhere."""
    file, link = tmp_path / "real.toml", tmp_path / "agent.toml"
    file.write_text(f'[agent]\nenrolment_token = "{SECRET}"\n')
    link.symlink_to(file)
    forget_token(link)

    assert link.is_symlink()
    assert "[agent]\n" == file.read_text()


def test_a_file_without_a_token_is_not_written(tmp_path: Path) -> None:
    """Asking twice does no harm; a token in a comment is pointed out."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\n# enrolment_token = "{SECRET}"\n')
    file.chmod(0o400)
    before = file.stat().st_ino

    assert Forgotten(removed=False, left_in_comment=True) == forget_token(file)
    assert before == file.stat().st_ino


def test_no_error_shows_the_token(tmp_path: Path) -> None:
    """Neither one that a human has to act on nor one of the file system."""
    file = tmp_path / "agent.toml"
    file.write_text(f'agent = {{ enrolment_token = "{SECRET}" }}\n')

    with pytest.raises(ConfigError, match="by hand") as by_hand:
        forget_token(file)
    with pytest.raises(ConfigError, match="cannot change"):
        forget_token(tmp_path)
    assert SECRET not in str(by_hand.value)
