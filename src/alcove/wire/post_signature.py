"""Who signed the policy of a form that uploads to S3: by SigV4's fields, or by those of the older form, which boto3
still makes for us-east-1 unless it is told otherwise.

Source: "Authenticating requests: browser-based uploads using POST" in the Amazon S3 API reference. What is signed is
the policy as the form has it, in base64. Pure: no I/O, no clock of its own.
"""

from __future__ import annotations

import base64
import calendar
import hmac
import time
from collections.abc import Callable, Mapping

from alcove.errors import AccessDenied
from alcove.wire.sigv4 import ALGORITHM, MAX_SKEW_S, signing_key

# As long a key for one day is good ("Calculating a signature" in the Amazon S3 API reference).
MAX_AGE_S = 7 * 24 * 3600
_V4 = ("x-amz-algorithm", "x-amz-credential", "x-amz-date")


def access_key(fields: Mapping[str, str]) -> str:
    """Return whose signature the form claims to have. Raises ``AccessDenied`` where it has none."""
    if "x-amz-signature" in fields:
        return fields.get("x-amz-credential", "").partition("/")[0]
    if "signature" in fields and "awsaccesskeyid" in fields:
        return fields["awsaccesskeyid"]
    raise AccessDenied("Access Denied", code="missing", hint="the form needs a policy and its signature")


def verify(fields: Mapping[str, str], secret_of: Callable[[str], str | None], now_s: float) -> str:
    """Return the access key, or raise ``AccessDenied``. ``fields`` have their names in small letters."""
    key = access_key(fields)
    secret = secret_of(key)
    if secret is None:
        raise AccessDenied("The AWS Access Key Id you provided does not exist in our records.", code="unknown_key")
    policy = fields.get("policy", "").encode()
    if "x-amz-signature" in fields:
        expected, given = _v4(fields, policy, secret, now_s), fields["x-amz-signature"]
    else:
        expected, given = base64.b64encode(hmac.digest(secret.encode(), policy, "sha1")).decode(), fields["signature"]
    if not policy or not hmac.compare_digest(expected.encode(), given.encode()):
        raise AccessDenied("The request signature we calculated does not match the signature you provided.")
    return key


def _v4(fields: Mapping[str, str], policy: bytes, secret: str, now_s: float) -> str:
    algorithm, credential, date = (fields.get(name, "") for name in _V4)
    parts = credential.split("/")
    if algorithm != ALGORITHM or len(parts) != 5 or parts[3:] != ["s3", "aws4_request"] or parts[1] != date[:8]:
        raise AccessDenied(
            f"X-Amz-Algorithm must be {ALGORITHM}, X-Amz-Credential KEY/DATE/REGION/s3/aws4_request.", code="malformed"
        )
    try:
        signed_s = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise AccessDenied("X-Amz-Date must look like 20260131T235959Z.", code="malformed") from None
    if not now_s - MAX_AGE_S <= signed_s <= now_s + MAX_SKEW_S:
        raise AccessDenied("The signature is too old, or not yet current.", code="expired")
    return hmac.digest(signing_key(secret, parts[1], parts[2], "s3"), policy, "sha256").hex()
