from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from sample_passes import SAMPLES, Idle, Needy, Odd, Prune, Repeat

from prunec.ir.diagnostics import UserError
from prunec.passes.base import option
from prunec.passes.pipeline import Pipeline, parse_pipeline
from prunec.passes.registry import Registry
from prunec.passes.sparsity.patterns import NM, TAKES, NMOption
from prunec.passes.text.options import Check, at_least, check_options, fields_of, format_options, within


def parsed(text: str) -> object:
    [item] = parse_pipeline(text, registry=SAMPLES)
    return item


def message(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_pipeline(text, registry=SAMPLES)
    return caught.value.message


def test_fields_describe_every_option() -> None:
    rows = [(f.name, f.type_text, f.default_text, f.bounds, f.help) for f in fields_of(Prune)]
    assert rows == [
        ("ratio", "ratio", "0.3", "from 0 (included) to 1 (excluded)", "share of channels to remove"),
        ("criterion", "l1|l2|taylor", "l2", "", "what counts as little"),
        ("ignore", "word,...", "none", "", "globs of tensors to leave alone"),
        ("round-to", "int", "1", "of at least 1", "keep a multiple of this many"),
        ("pattern", "N:M|unstructured|block:RxC", "2:4", "", "pattern to keep"),
        ("dry", "bool", "false", "", "only look"),
        ("remarks", "bool", "true", "", "say what was done"),
    ]


def test_fields_of_rarer_types() -> None:
    rows = {f.name: (f.type_text, f.default_text) for f in fields_of(Odd)}
    assert rows["count"] == ("int|none", "none")
    assert rows["text"] == ("word", '""')
    assert rows["level"] == ("1|2", "1")
    assert rows["names"] == ("GLOB,...", "a,b")
    assert rows["share"] == ("ratio|none", "0.5")


def test_body_is_no_option_and_a_required_option_has_no_default() -> None:
    assert [f.name for f in fields_of(Repeat)] == ["times"]
    assert fields_of(Needy)[0].default_text is None


def test_a_type_that_has_no_text_is_the_authors_mistake() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Wrong(Idle):
        name: ClassVar[str] = "wrong"
        table: dict[str, int]

    with pytest.raises(
        TypeError, match=r"pass Wrong: options of type dict\[str, int\] cannot be written as text"
    ):
        fields_of(Wrong)


@pytest.mark.parametrize(
    "annotation", ["tuple[tuple[int, ...], ...]", "tuple[str, ...] | None", "tuple[int, int]"]
)
def test_types_whose_text_would_be_ambiguous_are_refused(annotation: str) -> None:
    wrong = type("Wrong", (Idle,), {"__annotations__": {"x": annotation}, "name": "wrong"})
    with pytest.raises(TypeError, match="cannot be written as text"):
        fields_of(dataclass(frozen=True, kw_only=True)(wrong))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prune{ratio=40%}", Prune(ratio=0.4)),
        ("prune{ratio=33.3%}", Prune(ratio=0.333)),
        ("prune{ratio=.5}", Prune(ratio=0.5)),
        ("prune{ratio=0}", Prune(ratio=0.0)),
        ("prune{criterion=taylor}", Prune(criterion="taylor")),
        ("prune{ignore=head.*,conv1/*,a::b_1,[0-9]}", Prune(ignore=("head.*", "conv1/*", "a::b_1", "[0-9]"))),
        ("prune{ignore=none}", Prune(ignore=())),
        ('prune{ignore="none"}', Prune(ignore=("none",))),
        ('prune{ignore="a b,c","#"}', Prune(ignore=("a b,c", "#"))),
        ("prune{round-to=8}", Prune(round_to=8)),
        ("prune{pattern=1:16}", Prune(pattern=NM(1, 16))),
        ("prune{dry}", Prune(dry=True)),
        ("prune{dry=true remarks=false}", Prune(dry=True, remarks=False)),
        ("odd{momentum=1e-3}", Odd(momentum=0.001)),
        ("odd{count=3}", Odd(count=3)),
        ("odd{count=none}", Odd(count=None)),
        ("odd{label=none}", Odd(label=None)),
        ('odd{label="none"}', Odd(label="none")),
        ('odd{text="a\\n\\"b\\u00a0"}', Odd(text='a\n"b\u00a0')),
        ("odd{level=2}", Odd(level=2)),
        ("odd{share=none}", Odd(share=None)),
        ("odd{most=100% shares=0,20%}", Odd(most=1.0, shares=(0.0, 0.2))),
        ("odd{names=none sizes=1,-2}", Odd(names=(), sizes=(1, -2))),
        ("odd{flag}", Odd(flag=True)),
        ("odd{flag=false}", Odd(flag=False)),
        ("needy{goal=-3}", Needy(goal=-3)),
    ],
)
def test_words_become_typed_values(text: str, expected: object) -> None:
    assert parsed(text) == expected
    assert parsed(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prune{ratio=many}", "option 'ratio' takes a number from 0 (included) to 1 (excluded), got 'many'"),
        ("prune{ratio=100%}", "option 'ratio' takes a number from 0 (included) to 1 (excluded), got '100%'"),
        ("prune{ratio=-0.1}", "option 'ratio' takes a number from 0 (included) to 1 (excluded), got '-0.1'"),
        ("prune{ratio=nan}", "option 'ratio' takes a number from 0 (included) to 1 (excluded), got 'nan'"),
        ("prune{ratio=1e1%}", "option 'ratio' takes a number from 0 (included) to 1 (excluded), got '1e1%'"),
        ("prune{ratio}", "option 'ratio' takes a number from 0 (included) to 1 (excluded), got no value"),
        ("prune{ratio=.1,.2}", "option 'ratio' takes one value, got 2"),
        ("prune{criterion=l3}", "option 'criterion' takes one of 'l1', 'l2', 'taylor', got 'l3'"),
        (
            "prune{criterion=tailor}",
            "option 'criterion' takes one of 'l1', 'l2', 'taylor', got 'tailor' (did you mean 'taylor'?)",
        ),
        ("prune{round-to=0}", "option 'round-to' takes a whole number of at least 1, got '0'"),
        ("prune{round-to=1.0}", "option 'round-to' takes a whole number of at least 1, got '1.0'"),
        ("prune{round-to=" + "9" * 5000 + "}", None),
        ("prune{pattern=4:2}", f"option 'pattern' takes {TAKES}, got '4:2'"),
        ("prune{pattern=24}", f"option 'pattern' takes {TAKES}, got '24'"),
        ("prune{dry=yes}", "option 'dry' takes true or false, got 'yes'"),
        ("odd{momentum=0}", "option 'momentum' takes a number from 0 (excluded) to 2 (included), got '0'"),
        (
            "odd{momentum=1e999}",
            "option 'momentum' takes a number from 0 (excluded) to 2 (included), got '1e999'",
        ),
        ("odd{count=0}", "option 'count' takes a whole number of at least 1 or none, got '0'"),
        ("odd{level=3}", "option 'level' takes one of '1', '2', got '3'"),
        (
            "odd{sizes=1,x}",
            "option 'sizes' takes a list, each item a whole number with at most two items, got '1,x'",
        ),
        ("odd{sizes=1,2,3}", None),
        ("odd{most=101%}", "option 'most' takes a number from 0 to 1, got '101%'"),
        (
            "odd{shares=1}",
            "option 'shares' takes a list, each item a number from 0 (included) to 1 (excluded), got '1'",
        ),
        ("odd{even=3}", "option 'even' must be even, got 3"),
        ("needy", "pass 'needy' needs option 'goal'"),
        ("needy{goal=1 fast slow}", "options 'fast' and 'slow' exclude each other"),
        ("prune{ratio=.1 ratio=.1}", "option 'ratio' is given twice"),
        ("prune{round_to=8}", "unknown option 'round_to' (did you mean 'round-to'?)"),
        ("idle{x}", "unknown option 'x'"),
        ("repeat{body=idle}(idle)", "unknown option 'body'"),
    ],
)
def test_wrong_values_are_told(text: str, expected: str | None) -> None:
    found = message(text)
    assert expected is None or found == expected
    assert len(found) < 160


def test_format_prints_only_what_differs_from_the_defaults() -> None:
    assert format_options(Prune()) == ""
    assert format_options(Prune(ratio=0.4, ignore=("a", "b c"), dry=True, remarks=False)) == (
        'ratio=0.4 ignore=a,"b c" dry remarks=false'
    )
    assert format_options(Odd(momentum=1)) == "momentum=1.0"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Prune(ratio=1.5), "option 'ratio' takes a number from 0 (included) to 1 (excluded), got 1.5"),
        (
            Prune(ratio=float("nan")),
            "option 'ratio' takes a number from 0 (included) to 1 (excluded), got nan",
        ),
        (Prune(ratio=True), "option 'ratio' takes a number from 0 (included) to 1 (excluded), got True"),
        (Prune(ignore=["a"]), "option 'ignore' takes a list, each item a word, got ['a']"),
        (
            Prune(pattern=(2, 4)),
            f"option 'pattern' takes {TAKES}, got (2, 4)",
        ),
        (Prune(criterion="l3"), "option 'criterion' takes one of 'l1', 'l2', 'taylor', got 'l3'"),
        (Prune(round_to=10**18), None),
        (Odd(momentum=10**17 + 1), None),
        (Odd(level=True), None),
    ],
)
def test_values_from_python_are_held_to_the_same_rules(item: Idle, expected: str | None) -> None:
    with pytest.raises(UserError) as caught:
        check_options(item)
    assert expected is None or caught.value.message == f"pass 'prune': {expected}"
    with pytest.raises(UserError):
        Pipeline.of(item)


def test_checks_say_what_they_accept() -> None:
    assert at_least(8)(8) is None
    assert at_least(8)(7) == "must be a value of at least 8, got 7"
    assert within(0, 1).text == "from 0 to 1"
    accepted = {closed: [v for v in (0, 0.5, 1) if within(0, 1, closed=closed)(v) is None]
                for closed in ("both", "left", "right", "neither")}  # fmt: skip
    assert accepted == {"both": [0, 0.5, 1], "left": [0, 0.5], "right": [0.5, 1], "neither": [0.5]}
    both = at_least(4) & Check("that is even", lambda value: value % 2 == 0)
    assert [both(3), both(4)] == ["must be a value of at least 4 and that is even, got 3", None]
    assert both(5) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved(Idle):
    """Has options whose names Python keeps for itself."""

    name: ClassVar[str] = "reserved"
    for_: NMOption = option(NM(2, 4), help="what for")
    not_in_: tuple[str, ...] = option((), help="where not")


def test_an_underscore_at_the_end_of_a_field_is_not_in_the_option() -> None:
    registry = Registry(table={"reserved": Reserved})
    assert [(f.name, f.attribute) for f in fields_of(Reserved)] == [("for", "for_"), ("not-in", "not_in_")]
    [item] = parse_pipeline("reserved{for=1:4 not-in=a,b}", registry=registry)
    assert item == Reserved(for_=NM(1, 4), not_in_=("a", "b"))
    assert str(item) == "reserved{for=1:4 not-in=a,b}"
    with pytest.raises(UserError, match=r"unknown option 'for-' \(did you mean 'for'\?\)"):
        parse_pipeline("reserved{for-=1:4}", registry=registry)
