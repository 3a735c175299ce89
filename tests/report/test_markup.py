from made_runs import HOSTILE, Seen

from pplemd.report.markup import add, clean, element, table, written


def test_texts_and_attributes_are_escaped():
    seen = Seen(written(element("p", {"title": HOSTILE}, HOSTILE, element("b", {}, "x"), HOSTILE)))
    assert seen.tags == ["p", "b"]
    assert seen.attributes[0] == {"title": HOSTILE}
    assert seen.text.strip() == f"{HOSTILE}x{HOSTILE}"


def test_what_html_cannot_hold_is_replaced_and_long_texts_are_cut():
    assert clean("a\x00b\ud800c\x1b[31m") == "a\ufffdb\ufffdc\ufffd[31m"
    assert clean("é\x9b31m\x7f") == "é\ufffd31m\ufffd"  # commands of 8-bit terminals
    assert len(clean("x" * 10**6)) < 5000
    assert b"\xef\xbf\xbd" in written(element("p", {"id": "\x00"}, "\ud800"))


def test_children_keep_their_order():
    made = element("p", {"a": None, "w": 2.0}, "one", None, element("i"), "two")
    add(made, element("b"), "three")
    assert written(made) == b'<!doctype html>\n<p w="2">one<i></i>two<b></b>three</p>\n'


def test_tables_head_their_rows():
    seen = Seen(written(table(["", "value"], [["pull", "1"], ["lag", "2"]])))
    assert seen.tags.count("th") == 4
    assert seen.tags.count("td") == 2
