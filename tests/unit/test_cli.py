"""The commands against a small real HTTP server on a UNIX socket."""

from __future__ import annotations

import base64
import io
import json
import socketserver
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from alcove.cli import exits
from alcove.cli.app import COMMANDS, root
from alcove.errors import AlcoveError

CONTROL = "/2015-03-31/functions"


class Stub(socketserver.ThreadingUnixStreamServer):
    """Answers by table; an answer is (status, headers, body) or a list of them, used in turn."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = super().get_request()
        return connection, ("local", 0)


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        plain = self.path.split("?")[0]
        missing = (404, {}, {"Message": f"no {plain}"})
        found = self.server.answers.get(f"{self.command} {plain}", missing)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        status, headers, document = found
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with Stub(tmp_path / "api.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def alcove(run: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    """Run a command as ``main`` does."""
    result = CliRunner().invoke(root, arguments, env={"ALCOVE_RUN": str(run)}, input=stdin)
    if isinstance(result.exception, AlcoveError):
        result.exit_code = exits.exit_code(result.exception)
    return result


def configuration(**fields: Any) -> dict[str, Any]:
    return {"FunctionName": "hello", "State": "Active", "LastUpdateStatus": "Successful", **fields}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "hello"
    source.mkdir()
    (source / "app.py").write_text("def handler(event, context): return event\n")
    return source


def asked(stub: Stub) -> list[str]:
    return [f"{method} {path}" for method, path, _, _ in stub.asked]


# -- deploy ------------------------------------------------------------------------------------


def test_deploy_creates_a_function_that_is_not_there(stub: Stub, folder: Path) -> None:
    stub.answers = {
        f"GET {CONTROL}/hello": [
            (404, {}, {"Message": "not found"}),
            (200, {}, {"Configuration": configuration(State="Pending", StateReason="its image is being built")}),
            (200, {}, {"Configuration": configuration()}),
        ],
        f"POST {CONTROL}": (201, {}, configuration(State="Pending")),
    }
    options = [
        "--tmp",
        "1024",
        "--log-format",
        "JSON",
        "--runtime",
        "python3.11",
        "--handler",
        "app.handler",
        "--memory",
        "256",
    ]
    options += ["--env", "A=1", "--env", "B=x=y", "--isolation", "gvisor", "--no-network", "--json"]
    result = alcove(folder.parent, "fn", "deploy", str(folder), *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["State"] == "Active"
    assert "its image is being built" in result.stderr
    sent = json.loads(stub.asked[1][3])
    package = zipfile.ZipFile(io.BytesIO(base64.b64decode(sent.pop("Code")["ZipFile"])))
    assert package.namelist() == ["app.py"]
    assert sent == {
        "FunctionName": "hello",
        "Role": "arn:aws:iam::000000000000:role/none",
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "MemorySize": 256,
        "EphemeralStorage": {"Size": 1024},
        "LoggingConfig": {"LogFormat": "JSON"},
        "Isolation": "gvisor",
        "Network": False,
        "Environment": {"Variables": {"A": "1", "B": "x=y"}},
    }


def test_deploy_updates_what_is_there_and_publishes(stub: Stub, folder: Path) -> None:
    there = (200, {}, {"Configuration": configuration()})
    stub.answers = {
        f"GET {CONTROL}/hello": there,
        f"PUT {CONTROL}/hello/configuration": (200, {}, configuration()),
        f"PUT {CONTROL}/hello/code": (200, {}, configuration()),
        f"POST {CONTROL}/hello/versions": (201, {}, configuration(Version="3")),
    }
    result = alcove(folder.parent, "fn", "deploy", str(folder), "--timeout", "9", "--publish")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in asked(stub)] == [
        "GET",
        "PUT",
        "GET",
        "PUT",
        "GET",
        "POST",
        "GET",
    ]
    assert json.loads(stub.asked[1][3]) == {"Timeout": 9}
    assert stub.asked[-1][1].endswith("?Qualifier=3")
    assert "updated hello" in result.stdout


def test_deploy_says_what_a_new_function_needs(stub: Stub, folder: Path) -> None:
    result = alcove(folder.parent, "fn", "deploy", str(folder))
    assert result.exit_code == exits.USAGE
    assert "--runtime and --handler are needed" in str(result.exception)


def test_deploy_reports_why_a_function_failed_to_get_ready(stub: Stub, folder: Path) -> None:
    failed = configuration(State="Failed", StateReason="no such handler")
    stub.answers = {
        f"GET {CONTROL}/hello": (200, {}, {"Configuration": failed}),
        f"PUT {CONTROL}/hello/code": (200, {}, failed),
    }
    result = alcove(folder.parent, "fn", "deploy", str(folder))
    assert result.exit_code == exits.FAILED
    assert "no such handler" in str(result.exception)


@pytest.mark.parametrize("text", ["A", "=1", ""])
def test_deploy_refuses_a_malformed_variable(stub: Stub, folder: Path, text: str) -> None:
    result = alcove(folder.parent, "fn", "deploy", str(folder), "--env", text)
    assert result.exit_code == exits.USAGE
    assert stub.asked == []


# -- invoke ------------------------------------------------------------------------------------


def answer(payload: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
    usual = {
        "X-Alcove-Start": "restored; why=no idle instance",
        "X-Alcove-Phases": "state=8.5,agent=20",
        "X-Alcove-Sandbox": "vm-1",
    }
    return 200, {**usual, **{k.replace("_", "-"): v for k, v in headers.items()}}, payload


def test_invoke_prints_the_answer_and_how_it_started(stub: Stub, tmp_path: Path) -> None:
    stub.answers[f"POST {CONTROL}/hello/invocations"] = answer({"ok": 1})
    result = alcove(tmp_path, "fn", "invoke", "hello:7", '{"a": 1}')
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"ok": 1}
    assert "restored (no idle instance) in vm-1" in result.stderr
    assert stub.asked[0][1].endswith("?Qualifier=7")
    assert stub.asked[0][3] == b'{"a": 1}'


def test_invoke_json_has_phases_and_log(stub: Stub, tmp_path: Path) -> None:
    log = base64.b64encode(b"hi\n").decode()
    stub.answers[f"POST {CONTROL}/hello/invocations"] = answer([1], X_Amz_Log_Result=log)
    result = alcove(tmp_path, "fn", "invoke", "hello", "--json")
    document = json.loads(result.stdout)
    assert document["phases_ms"] == {"state": 8.5, "agent": 20.0}
    assert (document["start"], document["payload"], document["log"]) == ("restored", [1], "hi\n")
    assert stub.asked[0][2]["X-Amz-Log-Type"] == "Tail"


def test_invoke_exits_with_1_where_the_function_fails(stub: Stub, tmp_path: Path) -> None:
    failure = answer({"errorMessage": "x"}, X_Amz_Function_Error="Unhandled")
    stub.answers[f"POST {CONTROL}/hello/invocations"] = failure
    result = alcove(tmp_path, "fn", "invoke", "hello")
    assert result.exit_code == exits.FUNCTION_FAILED
    assert json.loads(result.stdout) == {"errorMessage": "x"}


def test_invoke_takes_its_payload_from_a_file_or_stdin(stub: Stub, tmp_path: Path) -> None:
    stub.answers[f"POST {CONTROL}/hello/invocations"] = answer(None)
    (tmp_path / "event.json").write_text("[1]")
    alcove(tmp_path, "fn", "invoke", "hello", f"@{tmp_path}/event.json")
    alcove(tmp_path, "fn", "invoke", "hello", "-", stdin=b"[2]")
    assert [body for *_, body in stub.asked] == [b"[1]", b"[2]"]


@pytest.mark.parametrize("payload", ["{", "@/no/such/file"])
def test_invoke_refuses_a_payload_that_is_not_json(tmp_path: Path, payload: str) -> None:
    assert alcove(tmp_path, "fn", "invoke", "hello", payload).exit_code == exits.USAGE


# -- the rest ----------------------------------------------------------------------------------


def test_list_follows_the_marker(stub: Stub, tmp_path: Path) -> None:
    pages = [
        (200, {}, {"Functions": [configuration(FunctionName="a")], "NextMarker": "a"}),
        (200, {}, {"Functions": [configuration(FunctionName="b")]}),
    ]
    stub.answers[f"GET {CONTROL}/"] = pages
    result = alcove(tmp_path, "fn", "list", "--json")
    assert [one["FunctionName"] for one in json.loads(result.stdout)] == ["a", "b"]
    assert "Marker=a" in stub.asked[1][1]


def test_show_prints_configuration_and_versions(stub: Stub, tmp_path: Path) -> None:
    variables = {"Variables": {"A": "1"}}
    found = {"Configuration": configuration(Environment=variables)}
    stub.answers[f"GET {CONTROL}/hello"] = (200, {}, found)
    versions = {"Versions": [{"Version": "$LATEST"}, {"Version": "1"}]}
    stub.answers[f"GET {CONTROL}/hello/versions"] = (200, {}, versions)
    alias = {"Name": "live", "FunctionVersion": "1"}
    stub.answers[f"GET {CONTROL}/hello/aliases"] = (200, {}, {"Aliases": [alias]})
    shown = alcove(tmp_path, "fn", "show", "hello").stdout
    assert "live -> 1" in shown
    assert "Variables=A=1" in shown
    assert "$LATEST, 1" in shown


def test_delete(stub: Stub, tmp_path: Path) -> None:
    stub.answers[f"DELETE {CONTROL}/hello"] = (204, {}, b"")
    assert alcove(tmp_path, "fn", "delete", "hello", "--qualifier", "2").exit_code == 0
    assert asked(stub) == [f"DELETE {CONTROL}/hello?Qualifier=2"]


def test_logs_prints_lines(stub: Stub, tmp_path: Path) -> None:
    line = {"time": 0, "request_id": "0123456789", "text": "printed"}
    stub.answers["GET /alcove/v1/functions/hello/logs"] = (200, {}, {"lines": [line], "cursor": 4})
    assert alcove(tmp_path, "fn", "logs", "hello").stdout.endswith(" 01234567 printed\n")
    assert json.loads(alcove(tmp_path, "fn", "logs", "hello", "--json").stdout) == line
    alcove(tmp_path, "fn", "logs", "hello", "--request", "0123")
    assert asked(stub)[-1].endswith("/logs?after=0&tail=100&request=0123")


def test_env_prints_exports_that_a_shell_reads(stub: Stub, tmp_path: Path) -> None:
    stub.answers["GET /alcove/v1/env"] = (200, {}, {"ALCOVE_URL": "http://h:1", "K": "a b'$(x)"})
    result = alcove(tmp_path, "env")
    assert result.stdout == "export ALCOVE_URL=http://h:1\nexport K='a b'\"'\"'$(x)'\n"


def test_env_names_the_region_as_boto3_reads_it(stub: Stub, tmp_path: Path) -> None:
    stub.answers["GET /alcove/v1/env"] = (200, {}, {"AWS_REGION": "bj"})
    found = json.loads(alcove(tmp_path, "env", "--json").stdout)
    assert found == {"AWS_REGION": "bj", "AWS_DEFAULT_REGION": "bj"}


def test_ps_prints_the_columns_that_there_are(stub: Stub, tmp_path: Path) -> None:
    one = {"sandbox": "vm-1", "isolation": "vm", "function": None}
    stub.answers["GET /alcove/v1/instances"] = (200, {}, {"instances": [one]})
    stub.answers["GET /alcove/v1/pods"] = (200, {}, {"items": []})
    assert alcove(tmp_path, "ps").stdout == "SANDBOX\tISOLATION\tFUNCTION\nvm-1\tvm\t\n"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, exits.USAGE),
        (403, exits.REFUSED),
        (404, exits.NOT_FOUND),
        (409, exits.REFUSED),
        (413, exits.REFUSED),
        (429, exits.REFUSED),
        (500, exits.FAILED),
        (503, exits.REFUSED),
    ],
)
def test_each_status_has_its_exit_code(stub: Stub, tmp_path: Path, status: int, code: int) -> None:
    refusal = {"message": "because", "hint": "do that"}
    stub.answers[f"POST {CONTROL}/hello/invocations"] = (status, {}, refusal)
    result = alcove(tmp_path, "fn", "invoke", "hello")
    assert result.exit_code == code
    assert isinstance(result.exception, AlcoveError)
    assert (str(result.exception), result.exception.hint) == ("because", "do that")


def test_without_a_server_the_hint_says_how_to_start_it(tmp_path: Path) -> None:
    result = alcove(tmp_path, "fn", "list")
    assert result.exit_code == exits.UNREACHABLE
    assert isinstance(result.exception, AlcoveError)
    assert "alcove serve" in result.exception.hint


def test_an_answer_that_is_not_json_is_told_plainly(stub: Stub, tmp_path: Path) -> None:
    stub.answers["GET /alcove/v1/env"] = (200, {}, b"<html>")
    assert alcove(tmp_path, "env").exit_code == exits.FAILED


def test_report_prints_error_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.report(AlcoveError("broken", hint="mend it")) == exits.FAILED
    assert capsys.readouterr().err == "error: broken\nhint: mend it\n"


def every_command(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        if not path and name == "bench":
            continue  # has tests of its own
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path}{name} ")
        else:
            yield path + name, command


@pytest.mark.parametrize(("name", "command"), list(every_command(root)))
def test_each_command_has_help_with_an_example(name: str, command: click.Command) -> None:
    assert command.help, name
    if name != "version":
        assert "Example" in command.help, name


def test_the_list_of_commands_is_whole() -> None:
    shown = CliRunner().invoke(root, ["--help"]).output
    assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(tmp_path: Path, shell: str) -> None:
    assert "_ALCOVE_COMPLETE" in alcove(tmp_path, "completion", shell).stdout


def test_settings_reference_names_every_setting(tmp_path: Path) -> None:
    from alcove.settings import settings

    text = alcove(tmp_path, "settings").stdout
    listed = json.loads(alcove(tmp_path, "settings", "--json").stdout)
    assert [one["name"] for one in listed] == [one.name for one in settings()]
    assert all(one.variable in text and one.flag in text for one in settings())
