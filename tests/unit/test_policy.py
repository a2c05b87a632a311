"""The isolation policy: the decision by property, the rules file by example."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.policy.decide import Case, CheckState, Facts, decide, demands
from alcove.policy.rules import Checks, Development, Languages, Rules, Tenants
from alcove.policy.rules_file import load_rules, parse_rules
from alcove.sandbox.protocol import Isolation, Runtime

TIERS = st.sampled_from(Isolation)
WORDS = st.sampled_from(["dev", "test", "live", "DEV"])
PAIRS = st.dictionaries(st.sampled_from(["stage", "kind"]), WORDS)
PATTERNS = st.lists(st.sampled_from(["stage=dev", "kind=t*", "*=live"]), max_size=2).map(tuple)
NAMES = st.lists(WORDS, max_size=2).map(tuple)

rules = st.builds(
    Rules,
    default=TIERS,
    development=st.none()
    | st.builds(Development, isolation=TIERS, latest=st.booleans(), tags=PATTERNS, environment=PATTERNS, aliases=NAMES),
    checks=st.none() | st.builds(Checks, isolation=TIERS),
    languages=st.none() | st.builds(Languages, isolation=TIERS, safe=st.just(("nodejs*",))),
    tenants=st.none() | st.builds(Tenants, isolation=TIERS, names=NAMES),
)
facts = st.builds(
    Facts,
    runtime=st.sampled_from([str(one) for one in Runtime]),
    latest=st.booleans(),
    tenant=NAMES,
    tags=PAIRS,
    environment=PAIRS,
    aliases=NAMES,
    checks=st.sampled_from(CheckState),
    kernel=st.sampled_from(["", "rt"]),
    floor=TIERS,
    tenant_floor=TIERS,
    asked=st.none() | TIERS,
    operator=st.none() | TIERS,
)


def higher(tier: Isolation | None, least: Isolation) -> Isolation:
    return least if tier is None or tier.strength < least.strength else tier


@st.composite
def raised(draw: st.DrawFn, given: Facts) -> Facts:
    """The facts, with any of them raised."""
    changes: dict[str, Any] = {
        "latest": True,
        "tenant": (*given.tenant, draw(WORDS)),
        "tags": {**draw(PAIRS), **given.tags},
        "environment": {**draw(PAIRS), **given.environment},
        "aliases": (*given.aliases, draw(WORDS)),
        "checks": draw(st.sampled_from([CheckState.WAITING, CheckState.FLAGGED, CheckState.FAILED])),
        "kernel": "rt",
        "floor": higher(given.floor, draw(TIERS)),
        "tenant_floor": higher(given.tenant_floor, draw(TIERS)),
        "asked": higher(given.asked, draw(TIERS)),
        "runtime": "python3.11",
    }
    if given.operator is not None:
        changes["operator"] = higher(given.operator, draw(TIERS))
    chosen = draw(st.sets(st.sampled_from(sorted(changes))))
    return replace(given, **{name: changes[name] for name in chosen})


@given(rules, facts, st.data())
def test_raising_facts_never_lowers_isolation(some: Rules, given_facts: Facts, data: st.DataObject) -> None:
    before = decide(given_facts, some).isolation
    assert decide(data.draw(raised(given_facts)), some).isolation.strength >= before.strength


@given(rules, facts)
def test_nothing_undercuts_a_floor_a_wish_or_an_own_kernel(some: Rules, given_facts: Facts) -> None:
    strength = decide(given_facts, some).isolation.strength
    for least in (given_facts.floor, given_facts.tenant_floor, given_facts.asked):
        assert least is None or strength >= least.strength
    assert not given_facts.kernel or strength == Isolation.VM.strength


@given(rules, facts)
def test_the_decision_is_the_strongest_demand_and_has_its_reason(some: Rules, given_facts: Facts) -> None:
    found, every = decide(given_facts, some), list(demands(given_facts, some))
    assert found in every
    assert found.isolation.strength == max(one.isolation.strength for one in every)
    assert found.reason


@given(facts)
def test_built_in_everything_runs_in_a_vm_unless_the_operator_says_otherwise(given_facts: Facts) -> None:
    if given_facts.operator is None:
        assert decide(given_facts, Rules()).isolation is Isolation.VM


LOOSE = Rules(
    default=Isolation.PROCESS,
    development=Development(latest=True, tags=("stage=dev*",), environment=("STAGE=test",), aliases=("qa",)),
    checks=Checks(),
    languages=Languages(isolation=Isolation.GVISOR, safe=("nodejs*",)),
    tenants=Tenants(names=("bank-*",)),
)
NODE = Facts(runtime="nodejs18")


@pytest.mark.parametrize(
    ("changes", "isolation", "case"),
    [
        ({}, Isolation.PROCESS, Case.DEFAULT),
        ({"latest": True}, Isolation.VM, Case.DEVELOPMENT),
        ({"tags": {"Stage": "DevTwo"}}, Isolation.VM, Case.DEVELOPMENT),
        ({"environment": {"STAGE": "test"}}, Isolation.VM, Case.DEVELOPMENT),
        ({"aliases": ("live", "qa")}, Isolation.VM, Case.DEVELOPMENT),
        ({"checks": CheckState.WAITING}, Isolation.VM, Case.CHECKS),
        ({"checks": CheckState.FLAGGED, "operator": Isolation.PROCESS}, Isolation.VM, Case.CHECKS),
        ({"runtime": "python3.11"}, Isolation.GVISOR, Case.LANGUAGE),
        ({"runtime": "python3.11", "operator": Isolation.PROCESS}, Isolation.PROCESS, Case.OPERATOR),
        ({"tenant": ("123", "bank-two"), "operator": Isolation.PROCESS}, Isolation.VM, Case.TENANT),
        ({"kernel": "rt", "operator": Isolation.PROCESS}, Isolation.VM, Case.KERNEL),
        ({"floor": Isolation.GVISOR, "operator": Isolation.PROCESS}, Isolation.GVISOR, Case.FLOOR),
        ({"tenant_floor": Isolation.GVISOR}, Isolation.GVISOR, Case.FLOOR),
        ({"asked": Isolation.GVISOR}, Isolation.GVISOR, Case.REQUEST),
        ({"asked": Isolation.PROCESS, "latest": True}, Isolation.VM, Case.DEVELOPMENT),
    ],
)
def test_each_case(changes: dict[str, Any], isolation: Isolation, case: Case) -> None:
    found = decide(replace(NODE, **changes), LOOSE)
    assert (found.isolation, found.case) == (isolation, case)


def test_a_reason_does_not_show_the_value_of_a_variable() -> None:
    found = decide(
        replace(NODE, environment={"KEY": "hunter2"}), Rules(Isolation.PROCESS, Development(environment=("key=*",)))
    )
    assert "hunter2" not in found.reason


def test_the_papers_numbers() -> None:
    numbers = [Case.DEVELOPMENT, Case.CHECKS, Case.LANGUAGE, Case.TENANT, Case.KERNEL, Case.FLOOR]
    assert [case.number for case in numbers] == [1, 2, 3, 4, 5, None]


FILE = b"""
default = "process"

[development]
tags = ["stage=dev*"]
latest = true

[checks]
severity = "high"

[languages]
isolation = "gvisor"
safe = ["nodejs*"]

[tenants]
names = ["bank-*"]
"""


def test_a_rules_file() -> None:
    found = parse_rules(FILE)
    assert found.default is Isolation.PROCESS
    assert found.development == Development(latest=True, tags=("stage=dev*",))
    assert found.languages == Languages(Isolation.GVISOR, ("nodejs*",))
    assert (found.checks, found.tenants) == (Checks(severity="high"), Tenants(names=("bank-*",)))
    assert found.tiers() == set(Isolation)
    assert load_rules(None) == Rules()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("default = 'process'\ndefault = 'vm'", 2, "not TOML"),
        ("[development\n", 1, "not TOML"),
        ("default = 'moat'", 1, "default"),
        ("\n\ndefaults = 'vm'", 3, "no defaults"),
        ("default = 'vm'\n[development]\nlatest = 'yes'", 3, "development.latest"),
        ("[development]\n\ntag = ['a=b']", 3, "no development.tag"),
        ("[development]\ntags = [\n  'a=b',\n  3]", 2, "development.tags"),
        ("[development]\nlatest = true\ntags = ['stage']", 3, "NAME=VALUE"),
        ("[languages]\nsafe = ['nodejs18', 'cobol']", 2, "matches no runtime"),
        ("[checks]\nseverity = 'grave'", 2, "checks.severity"),
        ("[[checks.scanners]]\nname = 'x'\nfiles = ['*']\ncommand = ['lint']", 1, "whole paths"),
        ("[kernel]\nisolation = 'process'", 1, "no kernel"),
        ("[tenants]\nnames = ['']", 2, "patterns"),
        ('[development]\n\ntags = ["a=b\\r\\nX-Other: c"]', 3, "patterns"),
        ("checks = 3", 1, "checks"),
        ("\xff", 1, "not TOML"),
    ],
)
def test_a_bad_rules_file_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse_rules(text.encode("latin-1"), "r.toml")
    assert str(error.value).startswith(f"r.toml:{line}: ")
    assert words in str(error.value)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_file_is_rules_or_a_refusal(data: str | bytes) -> None:
    try:
        found: object = parse_rules(data if isinstance(data, bytes) else data.encode(errors="surrogatepass"))
    except InvalidRequest as error:
        found = str(error)
    assert isinstance(found, Rules) or str(found).startswith("rules:")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="none"):
        load_rules(tmp_path / "none.toml")


def test_the_example_is_right() -> None:
    found = load_rules(Path(__file__).parents[2] / "examples/isolation/rules.toml")
    assert found.tiers() == {Isolation.PROCESS, Isolation.VM}
    assert found.checks is not None
    assert found.checks.scanners == ()
