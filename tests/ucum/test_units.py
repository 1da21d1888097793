from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.ucum import canonical, unit
from fhir_server.ucum.atoms import ARBITRARY, BASE, METRIC, PLAIN, PREFIXES

COMMON = (Path(__file__).parent / "data" / "ucum-common.txt").read_text().splitlines()
SCALES = {"[pH]", "dB", "B", "B[W]", "B[kW]", "B[V]", "B[mV]", "B[uV]", "B[SPL]", "Np", "bit_s", "%[slope]", "[p'diop]"}
"""Logarithms and tangents: units of UCUM that have no factor."""

amounts = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6)


def test_every_unit_of_the_value_set_is_understood() -> None:
    assert len(COMMON) > 1300
    assert {code for code in COMMON if unit(code) is None} == SCALES


def test_every_definition_leads_to_base_units() -> None:
    for code in [*METRIC, *PLAIN, *ARBITRARY, *BASE]:
        found = unit(code)
        assert found is not None, code
        assert {base for base, _ in found.powers} <= BASE | ARBITRARY | {"[iU]"}, code


# The right side is how the unit is defined, or its value in the tables of UCUM and of the NIST's special publication 811.
@pytest.mark.parametrize(
    ("one", "amount", "code"),
    [
        ("g", "1000", "mg"),
        ("mg/dL", "10", "ug/mL"),
        ("mg/dL", "0.01", "g/L"),
        ("L", "1", "dm3"),
        ("mm[Hg]", "133.322", "Pa"),
        ("cm[H2O]", "98.0665", "Pa"),
        ("[in_i'Hg]", "3386.3788", "Pa"),
        ("atm", "1.01325", "bar"),
        ("kcal", "4184", "J"),
        ("[Cal]", "1", "kcal"),
        ("[Btu_IT]", "1055.05585262", "J"),
        ("[HP]", "745.69987158227022", "W"),
        ("eV", "1.602176634e-19", "J"),
        ("[in_i]", "2.54", "cm"),
        ("[ft_i]", "0.3048", "m"),
        ("[mi_i]", "1609.344", "m"),
        ("[nmi_i]", "1852", "m"),
        ("[ly]", "9460730472580800", "m"),
        ("[lb_av]", "453.59237", "g"),
        ("[oz_av]", "28.349523125", "g"),
        ("[oz_tr]", "31.1034768", "g"),
        ("[stone_av]", "6.35029318", "kg"),
        ("[gr]", "64.79891", "mg"),
        ("[gal_us]", "3.785411784", "L"),
        ("[foz_us]", "29.5735295625", "mL"),
        ("[cup_us]", "16", "[tbs_us]"),
        ("[tbs_us]", "3", "[tsp_us]"),
        ("[gal_br]", "4.54609", "L"),
        ("[foz_br]", "28.4130625", "mL"),
        ("mm", "3", "[Ch]"),
        ("mL", "20", "[drp]"),
        ("wk", "168", "h"),
        ("a", "365.25", "d"),
        ("mo", "30.4375", "d"),
        ("Ci", "3.7e10", "Bq"),
        ("U", "1", "umol/min"),
        ("kat", "60000000", "U"),
        ("[IU]/mL", "1", "k[iU]/L"),
        ("g%", "1", "g/dL"),
        ("%", "1", "g/hg"),
        ("/min", "60", "/h"),
        ("{beats}/min", "1", "1/min"),
        ("10*3/uL", "1", "10*9/L"),
        ("10^6", "1000000", "{cells}"),
        ("circ", "360", "deg"),
        ("gon", "0.9", "deg"),
        ("deg", "3600", "''"),
        ("Kibit", "1024", "bit"),
        ("By", "8", "bit"),
        ("mL/min/(173.10*-2.m2)", "1", "mL.100/min/173/m2"),
        ("m/s/s", "1", "m.s-2"),
        ("J/(kg.K)", "1", "m2.s-2.K-1"),
        ("L.s2/s", "1", "L.s"),
        ("10.L/(min.m2)", "10", "L/min/m2"),
        ("mU/g{Hgb}", "0.001", "U/g"),
        ("g/(8.h){shift}", "0.125", "g/h"),
        ("daL", "10", "L"),
    ],
)
def test_known_factors(one: str, amount: str, code: str) -> None:
    assert canonical(Decimal(1), one) == canonical(Decimal(amount), code) is not None


@pytest.mark.parametrize(
    ("one", "amount", "code"),
    [
        ("[psi]", 6894.757293168361, "Pa"),
        ("[acr_us]", 4046.872609874252, "m2"),
        ("deg", 0.017453292519943295, "rad"),
        ("Oe", 79.57747154594767, "A/m"),
        ("[ft_us]", 0.3048006096012192, "m"),
        ("[Btu_th]/h", 0.2928750, "W"),
        ("[wood'U]", 7.99932, "MPa.s/m3"),
    ],
)
def test_factors_without_end(one: str, amount: float, code: str) -> None:
    left, right = unit(one), unit(code)
    assert left is not None
    assert right is not None
    assert left.dimension == right.dimension
    assert float(left.factor / right.factor) == pytest.approx(amount, rel=1e-12)


@pytest.mark.parametrize(
    ("left", "right"),
    [(("37", "Cel"), ("98.6", "[degF]")), (("0", "Cel"), ("273.15", "K")), (("-40", "Cel"), ("-40", "[degF]")), (("80", "[degRe]"), ("100", "Cel"))],
)
def test_temperatures_have_zeros_of_their_own(left: tuple[str, str], right: tuple[str, str]) -> None:
    assert canonical(Decimal(left[0]), left[1]) == canonical(Decimal(right[0]), right[1]) is not None
    assert canonical(Decimal(left[0]), left[1] + "{rectal}") == canonical(Decimal(right[0]), right[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("g", "L"),
        ("[iU]", "U"),
        ("[iU]/L", "[arb'U]/L"),
        ("mol/L", "L-1"),
        ("Cel", "s"),
        ("rad", "1"),
        ("[CFU]", "[PFU]"),
        ("m", "m2"),
    ],
)
def test_different_things_have_different_dimensions(one: str, other: str) -> None:
    left, right = unit(one), unit(other)
    assert left is not None
    assert right is not None
    assert left.dimension != right.dimension


@pytest.mark.parametrize(
    "code",
    [
        *(
            "",
            " ",
            "x",
            "mgg",
            "kk",
            "k",
            "mmin",
            "k%",
            "k[in_i]",
            "GM",
            "Mg/dl/",
            "m//s",
            "m..s",
            ".m",
            "m.",
            "m s",
            "m ",
            "mg per dL",
            "(m",
            "m)",
            "()",
        ),
        *(
            "{",
            "}",
            "{a",
            "{{a}}",
            "{é}",
            "m{a}{b}",
            "m0",
            "0",
            "m/0",
            "m^2",
            "[",
            "[x]",
            "[]",
            "ⅿ",
            "\u0661",
            "10*999",
            "m-999",
            "Cel/s",
            "Cel2",
            "mg\n",
        ),
        *("g" * 500, "(" * 90 + "m" + ")" * 90 + ".", "Ym30.Ym30.Ym30", "99999999999999999999." * 9 + "99999999999999999999.Ym30.10*300"),
    ],
)
def test_what_is_no_unit(code: str) -> None:
    assert unit(code) is None
    assert canonical(Decimal(1), code) is None


@given(st.text(alphabet="mgLks10*^()./{}[]%+-'9Yi_U", max_size=200))
def test_no_text_takes_long_or_grows_large(code: str) -> None:
    found = unit(code)
    if found is not None:
        assert found.factor > 0
        assert max(found.factor.numerator, found.factor.denominator).bit_length() <= 1025


convertible = [code for code in COMMON if (found := unit(code)) is not None and not found.offset]
by_dimension: dict[str, list[str]] = {}
for _code in convertible:
    _unit = unit(_code)
    assert _unit is not None
    by_dimension.setdefault(_unit.dimension, []).append(_code)
pairs = st.sampled_from(sorted(by_dimension)).flatmap(lambda name: st.tuples(*[st.sampled_from(by_dimension[name])] * 2))


@given(amounts, pairs)
def test_there_and_back(amount: Decimal, pair: tuple[str, str]) -> None:
    """An amount in another unit, where decimals can write it, is the same quantity; where they cannot, it is so to 17 digits."""
    left, right = unit(pair[0]), unit(pair[1])
    assert left is not None
    assert right is not None
    other = Fraction(amount) * left.factor / right.factor
    assert other * right.factor / left.factor == Fraction(amount)
    there = canonical(amount, pair[0])
    assert there is not None
    assert there[0] == right.dimension
    exact = Fraction(amount) * left.factor
    assert abs(Fraction(there[1]) - exact) <= abs(exact) * Fraction(1, 10**17)
    ended = other.denominator
    while ended % 2 == 0:
        ended //= 2
    while ended % 5 == 0:
        ended //= 5
    if ended == 1 and len(str(other.numerator)) < 300:
        power = max(other.denominator.bit_length(), 1)
        written = Decimal(other.numerator * 10**power // other.denominator).scaleb(-power)
        if Fraction(written) == other:
            assert canonical(written, pair[1]) == there


@given(amounts, amounts, st.sampled_from([*convertible, "Cel", "[degF]"]))
def test_order_is_kept(one: Decimal, other: Decimal, code: str) -> None:
    low, high = canonical(min(one, other), code), canonical(max(one, other), code)
    assert low is not None
    assert high is not None
    assert low[1] <= high[1]


@given(st.sampled_from(sorted(PREFIXES)), st.sampled_from(sorted(METRIC)))
def test_prefixes_multiply(prefix: str, symbol: str) -> None:
    prefixed, plain = unit(prefix + symbol), unit(symbol)
    assert plain is not None
    assert prefixed is not None
    # `Gb` is the gilbert and `Pa` no peta-year: an atom's own name goes first.
    if prefix + symbol not in METRIC and prefix + symbol not in PLAIN:
        assert (prefixed.factor, prefixed.powers) == (plain.factor * Fraction(PREFIXES[prefix]), plain.powers)
