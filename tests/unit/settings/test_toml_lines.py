"""Lines are found for every way in which TOML can say a key."""

from __future__ import annotations

from paynow.settings.toml_lines import toml_lines

DOCUMENT = '''# a comment = 1
top = 1

[agent]
plan = [
  "a",  # [not.a.table]
  "b = 3",
]
doc = """
[no.table]
key = 1
"""
tools.one = 5
inline = { g = 1, h = { i = 2 } }
[agent.tools."get B"]
'quoted key' = 3 # note
 [ spaced . out ]
k = 1
[[list]]
n = 1
[[list]]
n = 2
m = 3'''


def test_every_table_and_key_has_the_line_where_it_stands_first() -> None:
    assert toml_lines(DOCUMENT) == {
        ("top",): 2,
        ("agent",): 4,
        ("agent", "plan"): 5,
        ("agent", "doc"): 9,
        ("agent", "tools"): 13,
        ("agent", "tools", "one"): 13,
        ("agent", "inline"): 14,
        ("agent", "inline", "g"): 14,
        ("agent", "inline", "h"): 14,
        ("agent", "inline", "h", "i"): 14,
        ("agent", "tools", "get B"): 15,
        ("agent", "tools", "get B", "quoted key"): 16,
        ("spaced",): 17,
        ("spaced", "out"): 17,
        ("spaced", "out", "k"): 18,
        ("list",): 19,
        ("list", "n"): 20,
        ("list", "m"): 23,
    }


def test_line_ends_of_other_systems_change_nothing() -> None:
    assert toml_lines(DOCUMENT.replace("\n", "\r\n")) == toml_lines(DOCUMENT)
