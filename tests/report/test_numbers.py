from pplemd.report.glossary import clean


def test_what_html_cannot_hold_is_replaced_and_long_texts_are_cut():
    assert clean("a\x00b\ud800c\x1b[31m") == "a\ufffdb\ufffdc\ufffd[31m"
    assert clean("é\x9b31m\x7f") == "é\ufffd31m\ufffd"  # commands of 8-bit terminals
    assert len(clean("x" * 10**6)) < 5000
