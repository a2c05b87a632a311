"""``alcove bucket notify``: which functions a bucket's changes call."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import click

from alcove.cli import output
from alcove.cli.bucket_client import BucketClient, elements, texts
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.naming import bucket_names, function_names
from alcove.cli.options import run_option
from alcove.cli.permission import drop_statement, ensure_statement

_KINDS = {"created": "s3:ObjectCreated:*", "removed": "s3:ObjectRemoved:*"}
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@click.command()
@click.argument("bucket", shell_complete=bucket_names)
@click.argument("function", required=False, shell_complete=function_names)
@click.option("--on", "kinds", type=click.Choice(list(_KINDS)), multiple=True, help="Which changes (created).")
@click.option("--prefix", default="", help="Only for keys that begin so.")
@click.option("--suffix", default="", help="Only for keys that end so.")
@click.option("--remove", is_flag=True, help="Call FUNCTION no more.")
@run_option
def notify(
    bucket: str, function: str | None, kinds: tuple[str, ...], prefix: str, suffix: str, remove: bool, run: Path
) -> None:
    """Have FUNCTION called when objects of BUCKET change; without FUNCTION, list what is set.

    A function that writes where it is called from calls itself: use --prefix, --suffix or another bucket. The
    function's policy gets the statement that lets the bucket call it.

    \b
    Examples:
      alcove bucket notify photos tag --suffix .jpg
      alcove bucket notify photos tag --remove
      alcove bucket notify photos
    """
    client = BucketClient(run)
    root = fromstring(client.call("GET", bucket, query={"notification": ""}).body)  # noqa: S314 (our own server's)
    if function is None:
        _show(root)
        return
    for one in elements(root, "CloudFunctionConfiguration"):
        if texts(one, "Id") == [function]:
            root.remove(one)
    control, statement = Client(run), f"s3-{bucket.replace('.', '_')}"
    if not remove:
        arn = control.call("GET", f"{FUNCTIONS}/{quote(function)}/configuration")["FunctionArn"]
        if ensure_statement(control, function, "", _statement(statement, bucket, str(arn))):
            output.note(f"{bucket} may call it: permission {statement} added to {function}")
        events = [_KINDS[kind] for kind in kinds or ("created",)]
        root.append(_configuration(function, str(arn), events, {"prefix": prefix, "suffix": suffix}))
    client.call("PUT", bucket, query={"notification": ""}, body=tostring(root))
    if remove:
        drop_statement(control, function, "", statement)
    click.echo(f"{bucket} calls {function} {'no more' if remove else 'from now on'}")


def _statement(name: str, bucket: str, function_arn: str) -> dict[str, str]:
    return {
        "StatementId": name,
        "Principal": "s3.amazonaws.com",
        "Action": "lambda:InvokeFunction",
        "SourceArn": f"arn:aws:s3:::{bucket}",
        "SourceAccount": function_arn.split(":")[4],
    }


def _show(root: Element) -> None:
    rows = []
    for one in elements(root, "CloudFunctionConfiguration"):
        filters = ", ".join(
            f"{name.lower()} {value}" for name, value in zip(texts(one, "Name"), texts(one, "Value"), strict=True)
        )
        rows.append((texts(one, "CloudFunction")[0], ", ".join(texts(one, "Event")), filters))
    output.print_table(("FUNCTION", "EVENTS", "FILTER"), rows, empty="no function is called")


def _configuration(name: str, arn: str, events: list[str], filters: dict[str, str]) -> Element:
    made = Element(f"{{{_NAMESPACE}}}CloudFunctionConfiguration")
    for tag, text in (("Id", name), ("CloudFunction", arn), *(("Event", event) for event in events)):
        SubElement(made, f"{{{_NAMESPACE}}}{tag}").text = text
    given = {name: value for name, value in filters.items() if value}
    if given:
        group = SubElement(SubElement(made, f"{{{_NAMESPACE}}}Filter"), f"{{{_NAMESPACE}}}S3Key")
        for filter_name, value in given.items():
            rule = SubElement(group, f"{{{_NAMESPACE}}}FilterRule")
            SubElement(rule, f"{{{_NAMESPACE}}}Name").text = filter_name
            SubElement(rule, f"{{{_NAMESPACE}}}Value").text = value
    return made
