import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.compose.interpolate import MAX_NESTING, Budget, Variables
from meshswarm.compose.report import Unfit

SET = {"X": "1", "E": "", "Y": "two"}


def variables() -> Variables:
    return Variables(SET, Budget())


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("$X ${X}", "1 1"),
        ("$X-$Y.", "1-two."),
        ("$$X", "$X"),
        ("$$$$", "$$"),
        ("$$$X", "$1"),
        ("a$", "a$"),
        ("$ $1 $-a $(a) $é", "$ $1 $-a $(a) $é"),
        ("${U:-a}${E:-b}${X:-c}", "ab1"),
        ("${U-a}${E-b}${X-c}", "a1"),
        ("${U:+a}${E:+b}${X:+c}", "c"),
        ("${U+a}${E+b}${X+c}", "bc"),
        ("${X:?why}${E?why}", "1"),
        ("${U:-${V:-$$z}}", "$z"),
        ("${U:-$Y}", "two"),
        ("${U:-a}}", "a}"),
        ("${X:-{a}}", "1"),
        ("${X:-${X}}}", "1}"),
        ("${X:+{b}}", "{b}"),
        ("${U:-a:-b}", "a:-b"),
        ("${U-a?b:+c}", "a?b:+c"),
        ("${X:+${U:-z}}", "z"),
        ("${U:+${U:?never asked}}", ""),
        ('${U:-"a b"}', '"a b"'),
    ],
)
def test_expansion(template: str, text: str) -> None:
    assert text == variables().expand(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${", "`${` names no variable; write `$$` for a dollar sign"),
        ("${X", "`${X` names no variable; write `$$` for a dollar sign"),
        ("${}", "`${}` names no variable; write `$$` for a dollar sign"),
        ("${1}", "`${1}` names no variable; write `$$` for a dollar sign"),
        ("${ X }", "`${ X }` names no variable; write `$$` for a dollar sign"),
        ("${X:=a}", "`${X:=a}` names no variable; write `$$` for a dollar sign"),
        ("${X:}", "`${X:}` names no variable; write `$$` for a dollar sign"),
        ("${U:-${V}", "`${U:-${V}` names no variable; write `$$` for a dollar sign"),
        ("${U:?say it}", "needs the variable U: say it"),
        ("${E:?${U:-say} it}", "needs the variable E: say it"),
        ("${U?}", "needs the variable U"),
    ],
)
def test_refusals(template: str, message: str) -> None:
    with pytest.raises(Unfit) as fault:
        variables().expand(template)
    assert message == str(fault.value)


def test_unset_variables_are_told_once_each() -> None:
    some = variables()
    some.expand("$U ${V} $U ${W:-x} $X")
    assert ("U", "V") == some.take_unset()
    assert () == some.take_unset()


def test_nesting_is_bounded() -> None:
    deep = "${U:-" * (MAX_NESTING + 2) + "x" + "}" * (MAX_NESTING + 2)
    with pytest.raises(Unfit, match="nested more than 20 levels"):
        variables().expand(deep)


def test_the_total_is_bounded() -> None:
    large = Variables({"L": "x" * 1_000_000}, Budget())
    with pytest.raises(Unfit, match="add up to more than"):
        large.expand("$L" * 9)


@pytest.mark.parametrize("value", ["\0", "\udcff"])
def test_values_that_no_process_can_take_are_refused(value: str) -> None:
    with pytest.raises(Unfit, match="is not a UTF-8 text"):
        Variables({"X": value}, Budget()).expand("$X")


@given(st.text(alphabet=st.sampled_from("${}:-?+XEUa \n"), max_size=40))
def test_it_only_ever_raises_unfit(template: str) -> None:
    try:
        text = variables().expand(template)
    except Unfit:
        return
    assert "$" in template or text == template


@given(st.text())
def test_doubled_dollars_keep_any_text_as_it_is(text: str) -> None:
    assert text == variables().expand(text.replace("$", "$$"))
