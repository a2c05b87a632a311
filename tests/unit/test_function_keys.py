"""What a function's sandbox gets in its environment beside what its tenant says."""

from __future__ import annotations

from pathlib import Path

from alcove.functions.keys import FunctionKeys
from alcove.functions.model import FunctionVersion
from alcove.sandbox.protocol import CodeImage, Isolation, Runtime, TenantId
from alcove.store.database import Database

ID = "0123456789abcdef" * 2


def version(keys: FunctionKeys, *, network: bool = True, **environment: str) -> FunctionVersion:
    return FunctionVersion(
        tenant=TenantId("111111111111"),
        function_id=ID,
        name="f",
        version="1",
        function_arn="arn",
        runtime=Runtime.PYTHON,
        runtime_name="python3.11",
        handler="app.handler",
        memory_mib=128,
        timeout_s=3,
        environment=environment,
        description="",
        role="",
        isolation=Isolation.VM,
        network=network,
        code=CodeImage("", Path()),
        package_sha256="",
        package_bytes=0,
        revision_id="1",
        modified_ms=0,
        own_environment=keys.environment(ID),
    )


async def test_a_function_finds_us_and_its_key_in_its_environment(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "alcove.db")
    keys = await FunctionKeys.open(database, "eu-test-1")
    made = version(keys, AWS_ENDPOINT_URL_S3="http://elsewhere")
    found = made.workload().environment
    assert found["AWS_REGION"] == "eu-test-1"
    assert found["AWS_ENDPOINT_URL_LAMBDA"] == found["AWS_ENDPOINT_URL_SQS"] == "http://169.254.100.1:9600"
    # What the tenant says wins; what it is shown holds no secret.
    assert found["AWS_ENDPOINT_URL_S3"] == "http://elsewhere"
    assert found["AWS_SECRET_ACCESS_KEY"] not in repr(made)
    assert dict(made.environment) == {"AWS_ENDPOINT_URL_S3": "http://elsewhere"}
    assert dict(version(keys, network=False, A="b").workload().environment) == {"A": "b"}
    # The same after a restart: snapshots hold it.
    again = await FunctionKeys.open(database, "eu-test-1")
    assert again.environment(ID) == keys.environment(ID)
    # No function of that id: no key.
    assert await keys.find(found["AWS_ACCESS_KEY_ID"]) is None
    assert await keys.find("ALFN" + "x" * 32) is None
    await database.close()
