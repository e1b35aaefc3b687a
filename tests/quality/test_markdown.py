"""What users wrote stays text."""

import pytest

from tunemill.quality.markdown import cell, counted, fenced, quoted, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](http://a.example/x.png)", r"!\[x\](http://a.example/x.png)"),
        ("<img src=x onerror=y> &amp;", "&lt;img src=x onerror=y&gt; &amp;amp;"),
        ("*a* _b_ `c` ~d~ $e$ \\", r"\*a\* \_b\_ \`c\` \~d\~ \$e\$ \\"),
        ("a | b\nc", r"a \| b c"),
    ],
)
def test_a_users_text_is_no_markup_image_html_or_new_line(text, shown):
    assert quoted(text) == shown


def test_161_characters_are_cut_to_160_and_escaped_after_that():
    assert quoted("_" * 160) == r"\_" * 160
    assert quoted("_" * 161) == r"\_" * 159 + "…"
    assert len(quoted("x" * 500, None)) == 500


def test_our_own_text_keeps_its_code_and_breaks_no_cell():
    assert cell("`answer` | <b>\n") == r"`answer` \| &lt;b>"


def test_a_block_is_fenced_by_more_backticks_than_it_holds_and_cut_at_1500_characters():
    assert fenced("a ```` b").splitlines()[0] == "`````text"
    assert fenced("x" * 1501).splitlines()[2] == "... 1 characters more"


def test_a_table_has_a_line_for_each_row_and_aligns_numbers_right():
    assert table(["rows", "name"], "rl", [["1", "a"]]) == "| rows | name |\n|--:|---|\n| 1 | a |"


def test_one_thing_is_singular():
    assert [counted(n, "prompt") for n in (0, 1, 2_000)] == ["0 prompts", "1 prompt", "2,000 prompts"]
