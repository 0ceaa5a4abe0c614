"""
A stand-in for Patchwork: the part of its REST API 1.2 that we use.

What it takes and gives is held to the shapes that Patchwork's published schema
(docs/api/schemas/v1.2 of its repository) has for patches and checks: names,
types, enumerations, lengths and patterns of the fields, and the parameters of
the lists; nothing else of the API is here. How it behaves where the schema
says nothing (the token's header, what the filters compare, the order of a
list, pages by a Link header) is what Patchwork's code does.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jsonschema

STATES = ['pending', 'success', 'warning', 'fail']
USER = {
    'type': 'object',
    'properties': {
        'id': {'type': 'integer'},
        'url': {'type': 'string'},
        'username': {'type': 'string', 'minLength': 1, 'maxLength': 150},
        'first_name': {'type': 'string', 'maxLength': 30},
        'last_name': {'type': 'string', 'maxLength': 150},
        'email': {'type': 'string', 'minLength': 1},
    },
}
CHECK_CREATE = {
    'type': 'object',
    'required': ['state'],
    'properties': {
        'state': {'type': 'string', 'enum': STATES},
        'target_url': {'type': ['string', 'null'], 'maxLength': 200},
        'context': {
            'type': 'string', 'pattern': '^[-a-zA-Z0-9_]+$', 'minLength': 1, 'maxLength': 255,
        },
        'description': {'type': ['string', 'null']},
    },
}  # fmt: skip
CHECK = {
    'type': 'object',
    'properties': {
        'id': {'type': 'integer'},
        'url': {'type': 'string'},
        'user': USER,
        'date': {'type': 'string'},
        **CHECK_CREATE['properties'],  # type: ignore[dict-item]  # JSON has no better type
    },
}
PATCH = {
    'type': 'object',
    'properties': {
        'id': {'type': 'integer'},
        'url': {'type': 'string'},
        'web_url': {'type': 'string'},
        'project': {
            'type': 'object',
            'properties': {
                'id': {'type': 'integer'},
                'link_name': {'type': 'string', 'minLength': 1, 'maxLength': 255},
            },
        },
        'msgid': {'type': 'string', 'minLength': 1, 'maxLength': 255},
        'date': {'type': 'string'},
        'name': {'type': 'string', 'minLength': 1, 'maxLength': 255},
        'check': {'type': 'string', 'enum': STATES},
        'checks': {'type': 'string'},
    },
}
ERROR = {'type': 'object', 'properties': {'detail': {'type': 'string'}}}
LIST_PARAMETERS = {'page', 'per_page', 'order', 'q', 'before', 'since'}
PARAMETERS = {
    'patches': LIST_PARAMETERS
    | {'project', 'series', 'submitter', 'delegate', 'state', 'archived', 'hash', 'msgid'},
    'checks': LIST_PARAMETERS | {'user', 'state', 'context'},
}


@dataclass
class Server:
    """What the server has: patches, and their checks. `tokens` are users' names by token."""

    url: str = ''
    project: str = 'linux-mm'
    patches: dict[int, str] = field(default_factory=dict)
    checks: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    largest_page: int = 2
    broken: tuple[int, bytes, dict[str, str]] | None = None

    def add_check(self, patch: int, user: str, **said: str) -> None:
        """Add a check, as a post of that user does."""
        known = self.checks.setdefault(patch, [])
        number = sum(len(one) for one in self.checks.values()) + 1
        known.append(
            {
                'id': number,
                'url': f'{self.url}/api/1.2/patches/{patch}/checks/{number}/',
                'user': {'id': 1, 'url': f'{self.url}/api/1.2/users/1/', 'username': user,
                         'first_name': '', 'last_name': '', 'email': f'{user}@example.org'},
                'date': f'2026-11-25T10:00:{number:02}.000000',
                'target_url': None,
                'context': 'default',
                'description': None,
                **said,
            }
        )  # fmt: skip

    def said(self, patch: int) -> list[tuple[str, str | None]]:
        """State and description of a patch's checks, oldest first."""
        return [(one['state'], one['description']) for one in self.checks.get(patch, [])]

    def posts(self) -> int:
        """How often something was posted."""
        return sum(method == 'POST' for method, _, _ in self.asked)


class _Handler(http.server.BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state, parts, words = self._start()
        if self._broken():
            return
        match parts:
            case ['api', '1.2', 'patches', '']:
                assert set(words) <= PARAMETERS['patches'], words
                found = [
                    _patch(state, number, msgid)
                    for number, msgid in state.patches.items()
                    if words.get('project', state.project) == state.project
                    and f'<{words.get("msgid", msgid[1:-1])}>' == msgid
                ]
                self._page(found, PATCH, words)
            case ['api', '1.2', 'patches', number, 'checks', ''] if int(number) in state.patches:
                assert set(words) <= PARAMETERS['checks'], words
                checks = [
                    one
                    for one in state.checks.get(int(number), [])
                    if words.get('context', one['context']) == one['context']
                    and words.get('user', one['user']['username']) == one['user']['username']
                ]
                self._page(checks, CHECK, words)
            case _:
                self._send(404, {'detail': 'Not found.'}, ERROR)

    def do_POST(self) -> None:
        state, parts, _ = self._start()
        body = self.rfile.read(int(self.headers['Content-Length']))
        if self._broken():
            return
        user = state.tokens.get((self.headers['Authorization'] or '').removeprefix('Token '))
        if user is None:
            self._send(401, {'detail': 'Invalid token.'}, ERROR)
            return
        said = json.loads(body)
        try:
            jsonschema.validate(said, CHECK_CREATE)
        except jsonschema.ValidationError as error:
            key = str(next(iter(error.path), 'state'))
            self._send(400, {key: ['Enter a valid value.']}, {'type': 'object'})
            return
        patch = int(parts[3])
        state.add_check(patch, user, **said)
        self._send(201, state.checks[patch][-1], CHECK)

    def _start(self) -> tuple[Server, list[str], dict[str, str]]:
        state = self.server_state
        state.asked.append((self.command, self.path, self.headers['Authorization']))
        split = urlsplit(self.path)
        words = {key: values[-1] for key, values in parse_qs(split.query).items()}
        return state, split.path.split('/')[1:], words

    def _broken(self) -> bool:
        if self.server_state.broken is None:
            return False
        code, body, headers = self.server_state.broken
        self._write(code, body, headers)
        return True

    def _page(self, found: list[dict[str, Any]], shape: object, words: dict[str, str]) -> None:
        size = min(int(words.get('per_page', 30)), self.server_state.largest_page)
        page = int(words.get('page', 1))
        headers = {}
        if page * size < len(found):
            query = urlencode({**words, 'page': page + 1})
            # As behind a proxy: the address is not the one that we know.
            headers['Link'] = (
                f'<http://inner.invalid{urlsplit(self.path).path}?{query}>; rel="next"'
            )
        shown = found[(page - 1) * size : page * size]
        self._send(200, shown, {'type': 'array', 'items': shape}, headers)

    def _send(
        self, code: int, found: object, shape: object, headers: dict[str, str] | None = None
    ) -> None:
        jsonschema.validate(found, shape)  # type: ignore[arg-type]  # a schema is any mapping
        self._write(code, json.dumps(found).encode(), headers or {})

    def _write(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {'Content-Type': 'application/json', **headers}.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _patch(state: Server, number: int, msgid: str) -> dict[str, Any]:
    return {
        'id': number,
        'url': f'{state.url}/api/1.2/patches/{number}/',
        'web_url': f'{state.url}/project/{state.project}/patch/{msgid[1:-1]}/',
        'project': {'id': 1, 'link_name': state.project},
        'msgid': msgid,
        'date': '2026-11-25T10:00:00',
        'name': f'patch {number}',
        'check': 'pending',
        'checks': f'{state.url}/api/1.2/patches/{number}/checks/',
    }


@contextmanager
def serving() -> Iterator[Server]:
    """Serve on loopback for as long as the context lasts."""
    state = Server()

    class Handler(_Handler):
        server_state = state

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.daemon_threads = True
        state.url = f'http://127.0.0.1:{server.server_address[1]}'
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
