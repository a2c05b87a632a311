"""The policies of functions: kept, shown, and asked by every face that lets in others than the owner.

A function has a policy for itself, and one for each version and alias that is called by name: they are apart, as on
AWS.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions.model import LATEST
from alcove.functions.policy_text import read_policy
from alcove.functions.records import check_policy_revision, find_function
from alcove.functions.routing import read_routing
from alcove.functions.service import FunctionService
from alcove.functions.statements import Caller, Statement, check_statement, policy, policy_revision
from alcove.sandbox.protocol import TenantId
from alcove.store import functions as function_rows
from alcove.store import permissions as rows
from alcove.store.database import Database

INVOKE = "lambda:InvokeFunction"


@dataclass(frozen=True, slots=True)
class Policy:
    """``text`` is the JSON of it, ``resource`` the ARN that it is about."""

    text: str
    resource: str

    @property
    def revision_id(self) -> str:
        return policy_revision(self.text)


class PermissionService:
    """All methods are scoped by the function's owner. ``qualifier``: empty for the function itself."""

    def __init__(self, database: Database, functions: FunctionService) -> None:
        self._database = database
        self._functions = functions
        self._known: dict[tuple[str, str, str], list[Statement]] = {}
        functions.resolver.changed.append(self._drop)

    async def add(
        self, tenant: TenantId, name: str, qualifier: str, statement: Statement, *, revision_id: str | None = None
    ) -> Policy:
        """Add a statement; the result is the whole policy. Raises ``Conflict`` where its id is taken."""
        check_statement(statement)

        def write(connection: sqlite3.Connection) -> Policy:
            function = self._found(connection, tenant, name, qualifier, revision_id)
            try:
                rows.insert_permission(connection, _row(function, qualifier, statement))
            except sqlite3.IntegrityError as error:
                raise Conflict(f"The statement id ({statement.id}) provided already exists.") from error
            return self._policy(connection, function, qualifier)

        changed = await self._database.write(write)
        self._functions.drop(tenant, name)
        return changed

    async def put(
        self, tenant: TenantId, name: str, qualifier: str, text: str, *, revision_id: str | None = None
    ) -> Policy:
        """Write the whole policy anew; none of the statements that were there stays."""

        def write(connection: sqlite3.Connection) -> Policy:
            function = self._found(connection, tenant, name, qualifier, revision_id)
            statements = read_policy(text, self._resource(function, qualifier))
            rows.delete_permissions(connection, function.id, qualifier)
            for statement in statements:
                rows.insert_permission(connection, _row(function, qualifier, statement))
            return self._policy(connection, function, qualifier)

        changed = await self._database.write(write)
        self._functions.drop(tenant, name)
        return changed

    async def delete(self, tenant: TenantId, name: str, qualifier: str, *, revision_id: str | None = None) -> None:
        """Remove the whole policy. Raises ``NotFound`` where there is none."""

        def write(connection: sqlite3.Connection) -> None:
            function = self._found(connection, tenant, name, qualifier, revision_id)
            if not rows.delete_permissions(connection, function.id, qualifier):
                raise _none()

        await self._database.write(write)
        self._functions.drop(tenant, name)

    def _found(
        self,
        connection: sqlite3.Connection,
        tenant: TenantId,
        name: str,
        qualifier: str,
        revision_id: str | None,
    ) -> function_rows.FunctionRow:
        """Return the function whose policy, of this revision, may be written. Raises what hinders."""
        if qualifier == LATEST:
            raise InvalidRequest("A policy for $LATEST is not supported.", hint="leave the qualifier out")
        function = find_function(connection, tenant, name)
        if qualifier:
            read_routing(connection, self._functions.records, tenant, name, qualifier)
        self._check_revision(connection, function, qualifier, revision_id)
        return function

    async def remove(
        self, tenant: TenantId, name: str, qualifier: str, statement_id: str, *, revision_id: str | None = None
    ) -> None:
        """Raises ``NotFound`` where there is no such statement."""

        def write(connection: sqlite3.Connection) -> None:
            function = find_function(connection, tenant, name)
            self._check_revision(connection, function, qualifier, revision_id)
            if not rows.delete_permission(connection, function.id, qualifier, statement_id):
                raise NotFound(f"Statement {statement_id[:100]} is not found in resource policy.")

        await self._database.write(write)
        self._functions.drop(tenant, name)

    async def get(self, tenant: TenantId, name: str, qualifier: str = "") -> Policy:
        """Raises ``NotFound`` where there is no policy."""

        def query(connection: sqlite3.Connection) -> Policy | None:
            function = find_function(connection, tenant, name)
            found = self._policy(connection, function, qualifier)
            return found if rows.list_permissions(connection, function.id, qualifier) else None

        found = await self._database.read(query)
        if found is None:
            raise _none()
        return found

    async def may(self, tenant: TenantId, name: str, qualifier: str, caller: Caller) -> bool:
        """Whether the policy lets ``caller`` do this; the owner's own calls do not ask. From memory where possible.

        False also where the function does not exist: whoever is not let in learns nothing.
        """
        qualifier = "" if qualifier == LATEST else qualifier
        key = (tenant, name, qualifier)
        statements = self._known.get(key)
        if statements is None:
            statements = await self._read(key)
        return any(statement.allows(caller) for statement in statements)

    async def _read(self, key: tuple[str, str, str]) -> list[Statement]:
        tenant, name, qualifier = key
        generation = self._functions.resolver.generation

        def query(connection: sqlite3.Connection) -> list[Statement] | None:
            function = function_rows.find_function(connection, tenant, name)
            return None if function is None else self._statements(connection, function, qualifier)

        found = await self._database.read(query)
        # What does not exist is not remembered: names come from strangers.
        if found and generation == self._functions.resolver.generation:
            self._known[key] = found
        return found or []

    @staticmethod
    def _statements(
        connection: sqlite3.Connection, function: function_rows.FunctionRow, qualifier: str
    ) -> list[Statement]:
        found = rows.list_permissions(connection, function.id, qualifier)
        return [Statement(row.statement_id, row.principal, row.action, row.conditions) for row in found]

    def _policy(self, connection: sqlite3.Connection, function: function_rows.FunctionRow, qualifier: str) -> Policy:
        resource = self._resource(function, qualifier)
        return Policy(policy(self._statements(connection, function, qualifier), resource), resource)

    def _resource(self, function: function_rows.FunctionRow, qualifier: str) -> str:
        arn = self._functions.records.arn(function)
        return f"{arn}:{qualifier}" if qualifier else arn

    def _check_revision(
        self,
        connection: sqlite3.Connection,
        function: function_rows.FunctionRow,
        qualifier: str,
        revision_id: str | None,
    ) -> None:
        check_policy_revision(self._policy(connection, function, qualifier).text, revision_id)

    def _drop(self, tenant: TenantId, name: str) -> None:
        for key in [key for key in self._known if key[:2] == (tenant, name)]:
            del self._known[key]


def _row(function: function_rows.FunctionRow, qualifier: str, statement: Statement) -> rows.PermissionRow:
    said = (statement.id, statement.principal, statement.action)
    return rows.PermissionRow(function.id, qualifier, *said, statement.conditions)


def _none() -> NotFound:
    return NotFound("The resource you requested does not exist.", hint="the function has no policy")
