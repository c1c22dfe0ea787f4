"""Tokens let in those who bring one, and change while the server runs."""

import os

import pytest

from longtail.models import errors
from longtail.serving.model_server.config import auth
from longtail.serving.model_server.runtime import request_errors

FIRST, SECOND = "first-token-0123456789", "second-token-0123456789"


@pytest.fixture
def token_file(tmp_path):
    """Writes a token file; returns its path."""
    path = tmp_path / "tokens"

    def write(text, mode=0o600):
        half = tmp_path / "half"
        half.write_text(text)
        half.chmod(mode)
        os.replace(half, path)
        return str(path)

    return write


def lets_in(tokens, token):
    try:
        tokens.check(f"Bearer {token}")
    except request_errors.RequestError as error:
        assert error.http_status == 401 and token not in error.message
        return False
    return True


def test_each_token_of_a_file_lets_in_and_comments_do_not(token_file):
    tokens = auth.tokens(token_file(f"# of the gateway\n{FIRST}\n\n {SECOND} \n"), {})
    assert lets_in(tokens, FIRST) and lets_in(tokens, SECOND) and not lets_in(tokens, "# of the gateway")


def test_tokens_may_come_from_the_environment():
    tokens = auth.tokens("", {auth.VARIABLE: f"{FIRST} {SECOND}\n"})
    assert lets_in(tokens, FIRST) and lets_in(tokens, SECOND) and not lets_in(tokens, f"{FIRST} {SECOND}")


def test_a_file_comes_before_the_environment(token_file):
    tokens = auth.tokens(token_file(FIRST), {auth.VARIABLE: SECOND})
    assert lets_in(tokens, FIRST) and not lets_in(tokens, SECOND)


@pytest.mark.parametrize("given", [f"Bearer {FIRST}", f"bearer {FIRST}", f"BEARER  {FIRST} ".encode()])
def test_the_header_is_read_as_http_has_it(given):
    auth.tokens("", {auth.VARIABLE: FIRST}).check(given)


@pytest.mark.parametrize(
    "given",
    [None, "", b"", FIRST, "Bearer", "Bearer ", f"Basic {FIRST}", f"Bearer {FIRST[:-1]}", f"Bearer {FIRST}x", "\udcff"],
)
def test_any_other_header_does_not_let_in(given):
    with pytest.raises(request_errors.RequestError, match="bearer token is needed"):
        auth.tokens("", {auth.VARIABLE: FIRST}).check(given)


def test_without_tokens_all_are_let_in():
    assert auth.tokens("", {}) is None


@pytest.mark.parametrize("mode", [0o604, 0o622, 0o644, 0o666])
def test_a_file_that_others_may_read_is_refused(token_file, mode):
    with pytest.raises(errors.UsageError, match=f"is open to others .mode {mode:04o}.; run `chmod 600"):
        auth.tokens(token_file(FIRST, mode), {})


@pytest.mark.parametrize("text", ["", "\n# nothing\n"])
def test_an_empty_file_is_refused(token_file, text):
    with pytest.raises(errors.UsageError, match="holds no token"):
        auth.tokens(token_file(text), {})


@pytest.mark.parametrize("text", ["short", "t\u00f6ken-of-many-characters", f"{FIRST}\nab"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused_and_not_shown(token_file, text):
    with pytest.raises(errors.UsageError, match="16 or more printable ASCII") as raised:
        auth.tokens(token_file(text), {})
    assert text not in str(raised.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(token_file, tmp_path):
    with pytest.raises(errors.UsageError, match="cannot be read: No such file"):
        auth.tokens(str(tmp_path / "gone"), {})
    (tmp_path / "tokens").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.UsageError, match="is not text"):
        auth.tokens(str(tmp_path / "tokens"), {})


def test_an_empty_variable_is_refused():
    with pytest.raises(errors.UsageError, match=f"{auth.VARIABLE} holds no token"):
        auth.tokens("", {auth.VARIABLE: " "})


def test_a_changed_file_is_taken_up(token_file):
    tokens = auth.tokens(token_file(FIRST), {})
    token_file(f"{FIRST}\n{SECOND}")
    tokens.poll()
    assert lets_in(tokens, SECOND) and lets_in(tokens, FIRST)
    token_file(SECOND)
    tokens.poll()
    assert not lets_in(tokens, FIRST) and lets_in(tokens, SECOND)


@pytest.mark.parametrize(("text", "mode"), [("", 0o600), (SECOND, 0o644), ("short", 0o600)])
def test_a_file_that_became_bad_is_told_and_the_tokens_before_stay(token_file, text, mode):
    tokens = auth.tokens(token_file(FIRST), {})
    token_file(text, mode)
    with pytest.raises(errors.UsageError, match="token file"):
        tokens.poll()
    assert lets_in(tokens, FIRST) and not lets_in(tokens, SECOND)


def test_a_file_that_is_gone_is_told_and_the_tokens_before_stay(token_file):
    path = token_file(FIRST)
    tokens = auth.tokens(path, {})
    os.remove(path)
    with pytest.raises(errors.UsageError, match="cannot be read"):
        tokens.poll()
    assert lets_in(tokens, FIRST)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_is_not_warned_of(host, caplog):
    auth.warn_if_open(host, None, None)
    assert not caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "server"])
def test_a_server_that_is_open_to_all_says_so_in_one_line(host, caplog):
    auth.warn_if_open(host, None, None)
    [record] = caplog.records
    assert host in record.message and "--token-file" in record.message and "\n" not in record.message


def test_tokens_that_go_in_clear_are_warned_of(caplog):
    auth.warn_if_open("0.0.0.0", auth.tokens("", {auth.VARIABLE: FIRST}), None)
    assert "in clear" in caplog.text
