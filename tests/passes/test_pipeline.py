from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_passes import SAMPLES, Idle, Needy, Odd, Prune, Repeat

from prunec.ir.diagnostics import UserError
from prunec.passes.base import Pass
from prunec.passes.pipeline import FILE_LIMIT, Pipeline, parse_pipeline, read_pipeline, read_pipeline_file
from prunec.passes.sparsity.patterns import NM

WORDS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["none", "true", "2:4", "head.*", "", "#", "é", "\ud800"]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
RATIOS = st.floats(0, 1, exclude_max=True)
SIMPLE_PASSES = st.one_of(
    st.just(Idle()),
    st.builds(
        Prune,
        ratio=RATIOS,
        criterion=st.sampled_from(["l1", "l2", "taylor"]),
        ignore=st.lists(WORDS, max_size=3).map(tuple),
        round_to=st.integers(1, 10**18 - 1),
        pattern=st.tuples(st.integers(1, 9), st.integers(10, 99)).map(lambda pair: NM(*pair)),
        dry=st.booleans(),
        remarks=st.booleans(),
    ),
    st.builds(
        Odd,
        momentum=st.floats(0, 2, exclude_min=True),
        count=st.none() | st.integers(1, 99),
        label=st.none() | WORDS,
        text=WORDS,
        level=st.sampled_from([1, 2]),
        share=st.none() | RATIOS,
        names=st.lists(WORDS, max_size=3).map(tuple),
        sizes=st.lists(st.integers(-99, 99), max_size=2).map(tuple),
        flag=st.none() | st.booleans(),
    ),
    st.builds(Needy, goal=st.integers(-(10**18) + 1, 10**18 - 1)),
)
PIPELINES = st.recursive(
    st.lists(SIMPLE_PASSES, max_size=3).map(lambda passes: Pipeline(passes=tuple(passes))),
    lambda inner: st.builds(Repeat, times=st.integers(1, 9), body=inner).map(
        lambda item: Pipeline(passes=(item,))
    ),
    max_leaves=4,
)
TOKENS = st.sampled_from(
    [
        "idle",
        "prune",
        "repeat",
        "{",
        "}",
        "(",
        ")",
        "=",
        ",",
        "\n",
        " ",
        "#",
        '"',
        "\\",
        "ratio",
        "40%",
        "\t",
        "\r",
        "\0",
    ]
)


def parse(text: str) -> Pipeline:
    return parse_pipeline(text, file="passes.txt", registry=SAMPLES)


def rendered(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text)
    return caught.value.render()


@given(PIPELINES)
def test_parse_undoes_print(pipeline: Pipeline) -> None:
    text = str(pipeline)
    assert parse(text) == pipeline
    assert str(parse(text)) == text
    assert "\n" not in text


@given(st.text() | st.lists(TOKENS, max_size=25).map("".join))
def test_any_text_parses_or_is_a_user_error(text: str) -> None:
    try:
        pipeline = parse(text)
    except UserError as error:
        assert error.place is not None and error.excerpt is not None
        line, carets = error.excerpt.split("\n")
        assert "^" in carets and line.index("|") == carets.index("|")
        error.render().encode("utf-8")
    else:
        assert parse(str(pipeline)) == pipeline


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n # only a comment\n,\n", ""),
        ("idle", "idle"),
        ("idle,idle\nidle", "idle, idle, idle"),
        (",idle,\n,# c\n\r\nidle\r", "idle, idle"),
        ("idle{}", "idle"),
        ("idle {\n}", "idle"),
        ("prune{ratio=40%}", "prune{ratio=0.4}"),
        ("prune { ratio = 0.40\n\tignore = a , # first\n  b\n dry }", "prune{ratio=0.4 ignore=a,b dry}"),
        ('prune{ignore="a#b"} # c', 'prune{ignore="a#b"}'),
        ("prune{ignore=a#b\n}", "prune{ignore=a}"),
        ('prune{ignore="plain"}', "prune{ignore=plain}"),
        ("repeat(idle)", "repeat(idle)"),
        ("repeat{times=3} (\n idle\n prune{dry}\n)", "repeat{times=3}(idle, prune{dry})"),
        ("repeat(), repeat(repeat(idle),idle)", "repeat(), repeat(repeat(idle), idle)"),
        ("repeat(" * 31 + ")" * 31, "repeat(" * 31 + ")" * 31),
    ],
)
def test_canonical_text(text: str, expected: str) -> None:
    assert str(parse(text)) == expected


ERRORS = {
    "idle\nprune{ratoi=40%}": """\
error: passes.txt:2:7: unknown option 'ratoi' (did you mean 'ratio'?)
  2 | prune{ratoi=40%}
    |       ^^^^^
  = help: options of prune: ratio, criterion, ignore, round-to, pattern, dry, remarks""",
    "idle{fast}": """\
error: passes.txt:1:6: unknown option 'fast'
  1 | idle{fast}
    |      ^^^^
  = help: idle has no options""",
    "idle, prume": """\
error: passes.txt:1:7: unknown pass 'prume' (did you mean 'prune'?)
  1 | idle, prume
    |       ^^^^^
  = help: passes: idle, needy, odd, prune, repeat""",
    "prune{ratio=many}": """\
error: passes.txt:1:13: option 'ratio' takes a number from 0 (included) to 1 (excluded), got 'many'
  1 | prune{ratio=many}
    |             ^^^^""",
    "prune{criterion=l9}": """\
error: passes.txt:1:17: option 'criterion' takes one of 'l1', 'l2', 'taylor', got 'l9'
  1 | prune{criterion=l9}
    |                 ^^""",
    "prune{\n  dry\n  ratio=.1\n  dry\n}": """\
error: passes.txt:4:3: option 'dry' is given twice
  4 |   dry
    |   ^^^
  = note: first given at passes.txt:2:3""",
    "prune{ratio}": """\
error: passes.txt:1:7: option 'ratio' takes a number from 0 (included) to 1 (excluded), got no value
  1 | prune{ratio}
    |       ^^^^^
  = help: write ratio=<ratio>""",
    "prune{ratio=.1 , .2}": """\
error: passes.txt:1:13: option 'ratio' takes one value, got 2
  1 | prune{ratio=.1 , .2}
    |             ^^^^^^^
  = help: options are separated by white space; a comma continues a list of values""",
    "idle\nprune{ratio=.1\nidle\n": """\
error: passes.txt:2:6: this '{' is never closed
  2 | prune{ratio=.1
    |      ^""",
    "prune{ratio=.1\nprune{dry}": """\
error: passes.txt:1:6: this '{' is never closed
  1 | prune{ratio=.1
    |      ^""",
    "repeat(\n  idle\n": """\
error: passes.txt:1:7: this '(' is never closed
  1 | repeat(
    |       ^""",
    "idle)": """\
error: passes.txt:1:5: this ')' closes nothing
  1 | idle)
    |     ^""",
    "prune{ratio= dry=true}": """\
error: passes.txt:1:12: value missing after '='
  1 | prune{ratio= dry=true}
    |            ^""",
    "prune{ignore=a,}": """\
error: passes.txt:1:15: value missing after ','
  1 | prune{ignore=a,}
    |               ^""",
    "prune{ratio=.1, dry=true}": """\
error: passes.txt:1:15: this comma continues the values of option 'ratio', but an option follows
  1 | prune{ratio=.1, dry=true}
    |               ^
  = help: options are separated by white space; a comma continues a list of values""",
    "prune{dry, ratio=.1}": """\
error: passes.txt:1:10: expected the name of an option or '}', found ','
  1 | prune{dry, ratio=.1}
    |          ^
  = help: options are separated by white space; a comma continues a list of values""",
    "prune{ignore=a=b}": """\
error: passes.txt:1:15: stray '='
  1 | prune{ignore=a=b}
    |               ^
  = help: put words that contain '=' in double quotes""",
    "prune{ignore=f(x)}": """\
error: passes.txt:1:15: expected the name of an option or '}', found '('
  1 | prune{ignore=f(x)}
    |               ^
  = help: put words that contain '(' in double quotes""",
    'prune{"dry"}': """\
error: passes.txt:1:7: expected the name of an option or '}', found 'dry'
  1 | prune{"dry"}
    |       ^^^^^
  = help: names are written without quotes""",
    "prune ratio=.1": """\
error: passes.txt:1:7: 'ratio' is out of place after pass 'prune'
  1 | prune ratio=.1
    |       ^^^^^
  = help: options go in braces: prune{ratio=...}""",
    "prune=.1": """\
error: passes.txt:1:6: '=' is out of place after pass 'prune'
  1 | prune=.1
    |      ^
  = help: options go in braces: prune{option=value}""",
    "idle idle": """\
error: passes.txt:1:6: 'idle' is out of place after pass 'idle'
  1 | idle idle
    |      ^^^^
  = help: passes are separated by a comma or a line end""",
    "prune\n{dry}": """\
error: passes.txt:2:1: expected the name of a pass, found '{'
  2 | {dry}
    | ^
  = help: write '{' on the line of its pass""",
    '"idle"': """\
error: passes.txt:1:1: expected the name of a pass, found 'idle'
  1 | "idle"
    | ^^^^^^
  = help: names are written without quotes""",
    "idle(prune)": """\
error: passes.txt:1:1: pass 'idle' takes no body in parentheses
  1 | idle(prune)
    | ^^^^""",
    "idle, repeat": """\
error: passes.txt:1:7: pass 'repeat' needs a body in parentheses
  1 | idle, repeat
    |       ^^^^^^
  = help: write repeat(...) with the passes to run in the parentheses""",
    "needy": """\
error: passes.txt:1:1: pass 'needy' needs option 'goal'
  1 | needy
    | ^^^^^
  = help: add goal=<int>""",
    "needy{goal=1 fast slow}": """\
error: passes.txt:1:1: options 'fast' and 'slow' exclude each other
  1 | needy{goal=1 fast slow}
    | ^^^^^
  = help: leave one of them out""",
    "\tidle\u00a0": """\
error: passes.txt:1:6: stray character U+00A0 (no-break space)
  1 |  idle
    |      ^
  = help: put it in double quotes if it belongs to a word""",
    "idle\x07": """\
error: passes.txt:1:5: stray character U+0007 (control character)
  1 | idle\ufffd
    |     ^
  = help: put it in double quotes if it belongs to a word""",
    'prune{ignore="a\n"}': """\
error: passes.txt:1:14: this double quote is not closed on its line
  1 | prune{ignore="a
    |              ^^""",
    'prune{ignore="a\\d"}': """\
error: passes.txt:1:16: unknown escape in a quoted word
  1 | prune{ignore="a\\d"}
    |                ^
  = help: inside double quotes, write \\\\ for a backslash and \\" for a quote""",
    'prune{ignore=a"b"}': """\
error: passes.txt:1:15: a word is quoted as a whole or not at all
  1 | prune{ignore=a"b"}
    |               ^^^""",
    "repeat(" * 32 + "\n": f"""\
error: passes.txt:1:224: passes are nested more than 32 levels deep
  1 | ...{("repeat(" * 32)[176:]}
    |{" " * 51}^""",
}  # fmt: skip


@pytest.mark.parametrize("text", ERRORS)
def test_mistakes_are_shown_where_they_are(text: str) -> None:
    assert rendered(text) == ERRORS[text]


def test_a_mistake_in_a_very_long_line_is_shown_in_a_window() -> None:
    text = "prune{ignore=" + "a," * 500 + "b} x" + ", idle" * 100
    line, carets = rendered(text).splitlines()[1:3]
    assert len(line) < 115
    assert line[carets.index("^")] == "x"
    assert line.startswith("  1 | ...") and line.endswith("...")


def test_of_takes_text_passes_and_mixtures() -> None:
    prune = Prune(ratio=0.5)
    expected = Pipeline(passes=(prune,))
    assert Pipeline.of(prune) == expected
    assert Pipeline.of(expected) is expected
    assert Pipeline.of([Idle(), expected, [prune]]) == Pipeline(passes=(Idle(), prune, prune))
    assert Pipeline.of([]) == Pipeline.of("# nothing") == Pipeline()
    assert list(expected) == [prune] and len(expected) == 1


@pytest.mark.parametrize("source", [3, None, Prune, [Idle(), 3]])
def test_of_refuses_what_is_no_pass(source: object) -> None:
    with pytest.raises(UserError, match="expected pipeline text, a pass or a sequence of them"):
        Pipeline.of(source)  # type: ignore[arg-type]


def test_a_pass_prints_as_its_text() -> None:
    assert str(Prune(ratio=0.5)) == "prune{ratio=0.5}"
    assert str(Repeat(body=Pipeline.of(Idle()))) == "repeat(idle)"


def test_nesting_is_limited_in_python_too() -> None:
    item: Pass = Idle()
    for _ in range(31):
        item = Repeat(body=Pipeline.of(item))
    assert parse(str(Pipeline.of(item))).depth == 32
    with pytest.raises(UserError, match="nested more than 32 levels"):
        Pipeline.of(Repeat(body=Pipeline.of(item)))


def file_error(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_pipeline_file(path, registry=SAMPLES)
    return caught.value.render().replace(str(path), "passes.txt")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "error: passes.txt: no passes in this file"),
        (b"# nothing\n\n", "error: passes.txt: no passes in this file"),
        (b"idle\0", "error: passes.txt: not a text file: byte 4 is zero"),
        (b"idle\xff", "error: passes.txt: not UTF-8 text: byte 4 is 0xff\n  = help: save the file as UTF-8"),
        (
            "idle".encode("utf-16"),
            "error: passes.txt: not UTF-8 but UTF-16 text\n  = help: save the file as UTF-8",
        ),
        (b"#" * (FILE_LIMIT + 1), "error: passes.txt: not a pipeline: longer than 1 MiB"),
        (b"idle\nidel", None),
    ],
)
def test_files_that_are_no_pipeline(tmp_path: Path, data: bytes, expected: str | None) -> None:
    path = tmp_path / "passes.txt"
    path.write_bytes(data)
    found = file_error(path)
    assert found == expected if expected else found.startswith("error: passes.txt:2:1: unknown pass 'idel'")


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    assert file_error(tmp_path) == "error: passes.txt: cannot read the pipeline: is a directory"
    missing = tmp_path / "missing.txt"
    assert file_error(missing) == "error: passes.txt: cannot read the pipeline: no such file or directory"


def test_an_argument_is_a_file_if_there_is_one_else_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("idle").write_bytes("\N{BYTE ORDER MARK}prune{dry}\r\nidle".encode())
    assert str(read_pipeline("idle", registry=SAMPLES)) == "prune{dry}, idle"
    assert str(read_pipeline("idle,idle", registry=SAMPLES)) == "idle, idle"
    assert str(read_pipeline("prune{ignore=conv1/*}", registry=SAMPLES)) == "prune{ignore=conv1/*}"
    Path("prune").mkdir()
    assert str(read_pipeline("prune", registry=SAMPLES)) == "prune"


@pytest.mark.parametrize(
    "argument", ["passes.txt", "prune.passes", "a/b", "./idle", "my passes/x", "x" * 5000 + ".txt"]
)
def test_an_argument_that_looks_like_a_missing_file(argument: str) -> None:
    with pytest.raises(UserError) as caught:
        read_pipeline(argument, registry=SAMPLES)
    assert caught.value.render() == (
        f"error: {argument}: no such file\n"
        "  = help: give the path of a pipeline file, or passes as text such as 'fold-norm, verify'"
    )


def test_an_argument_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory"):
        read_pipeline(str(tmp_path), registry=SAMPLES)


@pytest.mark.parametrize("argument", ["", "  ", "# x", "\n"])
def test_an_empty_argument(argument: str) -> None:
    with pytest.raises(UserError, match="no passes in the pipeline"):
        read_pipeline(argument, registry=SAMPLES)


@given(st.text(string.printable + "\0\ud800"))
def test_any_argument_is_a_pipeline_or_a_user_error(argument: str) -> None:
    try:
        read_pipeline(argument, registry=SAMPLES)
    except UserError as error:
        assert error.render().startswith("error: ")
