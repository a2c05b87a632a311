"""Baidu's resource names (BRNs) for what has an ARN here.

Baidu's Go client looks at BRNs before it sends them: an account has 32 characters, a region is one short word and
digits. So a tenant's twelve digits are written with zeros before them, and ``us-east-1`` as ``us1``. Read back, any
region is ours.
"""

from __future__ import annotations

import re

ACCOUNT_LENGTH = 32
_ACCOUNT = re.compile(r"0{20}([0-9]{12})")
_REGION = re.compile(r"([a-z]{2,5})[^0-9]*([0-9]*)")
DEFAULT_REGION = "bj"


def account_to_brn(tenant: str) -> str:
    return tenant.rjust(ACCOUNT_LENGTH, "0")


def account_from_brn(account: str) -> str:
    """Return the tenant; what was not written here is left as it is."""
    found = _ACCOUNT.fullmatch(account)
    return found[1] if found else account


def region_to_brn(region: str) -> str:
    found = _REGION.match(region)
    return found[1] + found[2] if found else DEFAULT_REGION


def function_brn(region: str, tenant: str, name: str, qualifier: str) -> str:
    return f"brn:bce:cfc:{region_to_brn(region)}:{account_to_brn(tenant)}:function:{name}:{qualifier}"


def to_brn(arn: str) -> str:
    """Return the BRN that says the same as the ARN of a function or layer of ours."""
    _, _, _, region, tenant, rest = arn.split(":", 5)
    return f"brn:bce:cfc:{region_to_brn(region)}:{account_to_brn(tenant)}:{rest}"
