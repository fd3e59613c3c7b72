"""Exceptions are described by classes and places in code, never by their text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paynow.observability.tracebacks import FRAMES_MAX, MEMBERS_MAX, describe, short_path, type_name

SECRET = "4111111111111111"


def caught(function, *arguments) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def deep(levels: int) -> None:
    if levels == 0:
        raise ValueError(SECRET)
    deep(levels - 1)


def test_it_names_the_class_and_the_frames_from_the_outermost_in() -> None:
    described = describe(caught(deep, 1))
    assert described["type"] == "ValueError"
    assert [frame.split(" ")[1] for frame in described["frames"]] == ["caught", "deep", "deep"]
    assert described["frames"][-1].split(":")[0].endswith(Path(__file__).name)


def test_of_a_deep_stack_the_innermost_frames_are_kept() -> None:
    described = describe(caught(deep, 100))
    assert len(described["frames"]) == FRAMES_MAX
    assert not any(" caught" in frame for frame in described["frames"])


def chained(levels: int, *, explicit: bool) -> None:
    try:
        chained(levels - 1, explicit=explicit) if levels else deep(0)
    except ValueError as error:
        if explicit:
            raise ValueError(SECRET) from error
        raise ValueError(SECRET)  # noqa: B904


@pytest.mark.parametrize("explicit", [True, False])
def test_causes_are_followed_three_exceptions_deep(explicit: bool) -> None:
    described = describe(caught(lambda: chained(9, explicit=explicit)))
    assert "cause" not in described["cause"]["cause"]
    assert SECRET not in str(described)


def test_a_context_that_was_suppressed_is_not_shown() -> None:
    def suppressed() -> None:
        try:
            deep(0)
        except ValueError:
            raise KeyError(SECRET) from None

    assert "cause" not in describe(caught(suppressed))


def test_an_exception_that_causes_itself_ends() -> None:
    error = ValueError(SECRET)
    error.__cause__ = error
    assert describe(error)["cause"]["cause"]["type"] == "ValueError"


def test_members_of_a_group_are_described() -> None:
    group = ExceptionGroup(SECRET, [ValueError(SECRET), ExceptionGroup(SECRET, [KeyError(SECRET)]), *[OSError(SECRET)] * 9])
    described = describe(group)
    assert [member["type"] for member in described["members"]] == ["ValueError", "ExceptionGroup", "OSError", "OSError"][:MEMBERS_MAX]
    assert described["members"][1]["members"][0]["type"] == "KeyError"
    assert SECRET not in str(described)


def test_a_class_that_is_not_named_as_in_code_is_unnamed() -> None:
    assert type_name(type("Ann Smith", (Exception,), {})) == "unnamed"
    assert type_name(type(f"Card{SECRET}", (Exception,), {})) == "unnamed"
    assert type_name(type("Fault", (Exception,), {"__module__": "shop.cart"})) == "shop.cart.Fault"


def test_a_path_begins_at_the_folder_that_it_is_imported_from() -> None:
    import loguru

    import paynow.money

    assert short_path(paynow.money.__file__) == "paynow/money.py"
    assert short_path(loguru.__file__) == "loguru/__init__.py"


def test_of_folders_inside_each_other_the_innermost_counts(monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", ["/srv", "/srv/app/lib", "/srv/app"])
    assert short_path("/srv/app/lib/scoring/model.py") == "scoring/model.py"


def test_of_a_path_from_elsewhere_the_last_folder_is_shown() -> None:
    assert short_path("/home/ann.smith/payments/plugins/scoring.py") == "plugins/scoring.py"


@pytest.mark.parametrize("name", ["<string>", "<attrs generated init x>", "/srv/Ann Smith.py", "/srv/a\nb.py", "relative"])
def test_code_that_has_no_proper_file_is_generated(name: str) -> None:
    assert short_path(name) == "<generated>"


def test_generated_code_is_described() -> None:
    described = describe(caught(exec, compile("raise ValueError('x')", f"<{SECRET}>", "exec")))
    assert described["frames"][-1] == "<generated>:1 <module>"
    assert sys.exc_info() == (None, None, None)
