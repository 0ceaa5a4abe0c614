"""
Patchwork's REST API (1.2, as of Patchwork 3.0): a check for each patch.

Finds the patch by its message-id and posts a check, unless the newest one of
our context says the same already, so doing it again does nothing. What can not
be done is a `PatchworkError` of one line. The token is read when it is needed,
goes to the configured server alone (no redirection is followed), and is never
shown.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from bot import __version__
from bot.errors import MailError, PatchworkError
from bot.model import PatchCheck, Patchwork
from bot.password import secret
from bot.plain import one_line
from bot.shown import host_of

AGENT = f'vma-review-bot/{__version__}'
PAGES = 100
"""More pages of an answer than that are not read."""
LONGEST_LINK = 200
"""Characters that Patchwork takes of a check's link."""


class Client:
    """One Patchwork server, one project."""

    def __init__(self, settings: Patchwork) -> None:
        self._settings = settings
        self._api = f'{settings.url.rstrip("/")}/api/1.2'
        self._host = host_of(settings.url)
        self._session = requests.Session()
        self._session.auth = lambda request: request  # no password of a .netrc for the token
        self._session.headers['User-Agent'] = AGENT
        # A POST is never tried again by itself: whether it was done is asked the next time.
        retry = Retry(
            total=2,
            read=0,
            status_forcelist=(502, 503, 504),
            allowed_methods=('GET',),
            backoff_factor=0.2,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        for scheme in ('http://', 'https://'):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def report(self, check: PatchCheck) -> bool:
        """Post a check; False where the newest one says the same already."""
        patch = self.find(check.msgid)
        newest = self.newest(patch)
        if newest == (check.state, check.description):
            return False
        said = {
            'state': check.state,
            'context': self._settings.context,
            'description': check.description,
        }
        link = self._settings.target_url.replace('{msgid}', quote(check.msgid, safe='@'))
        if link and len(link) <= LONGEST_LINK:
            said['target_url'] = link
        answer = self._ask('POST', f'patches/{patch}/checks/', json=said, token=self._token())
        if answer.status_code != 201:
            raise self._refused(answer, f'a check of <{one_line(check.msgid)}>')
        return True

    def find(self, msgid: str) -> int:
        """Return the number that Patchwork gave the patch. Raises PatchworkError: it has none."""
        named = msgid.strip('<>')
        asked = {'msgid': named, 'project': self._settings.project}
        for one in self._listed('patches/', asked):
            number, theirs = one.get('id'), one.get('msgid')
            # A server that does not know the filter lists every patch.
            if isinstance(number, int) and theirs == f'<{named}>':
                return number
        where = f'{self._host}, project {self._settings.project}'
        raise PatchworkError(f'{where}: there is no patch <{one_line(named)}>')

    def newest(self, patch: int) -> tuple[str, str] | None:
        """Return state and description of our newest check of a patch, None for none."""
        asked = {'context': self._settings.context}
        if self._settings.user:
            asked['user'] = self._settings.user
        ours = [
            one
            for one in self._listed(f'patches/{patch}/checks/', asked)
            if one.get('context') == self._settings.context and self._is_ours(one)
        ]
        if not ours:
            return None
        last = max(ours, key=lambda one: (str(one.get('date')), str(one.get('id')).zfill(20)))
        return str(last.get('state')), str(last.get('description') or '')

    def _is_ours(self, one: Mapping[str, Any]) -> bool:
        user = one.get('user')
        name = str(user.get('username')) if isinstance(user, dict) else ''
        return not self._settings.user or name.lower() == self._settings.user.lower()

    def _listed(self, path: str, asked: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the objects of an answer, page by page."""
        for page in range(1, PAGES + 1):
            words = {**asked, 'page': str(page), 'per_page': '100'}
            answer = self._ask('GET', path, params=words)
            if answer.status_code != 200:
                raise self._refused(answer, path)
            try:
                found = answer.json()
            except ValueError as error:
                raise PatchworkError(f'{self._host}: {path}: not JSON') from error
            if not isinstance(found, list):
                raise PatchworkError(f'{self._host}: {path}: not a list')
            yield from (one for one in found if isinstance(one, dict))
            # The link itself may lead through a proxy's inner name; only that there is one counts.
            if 'next' not in answer.links:
                return

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        json: object = None,
        token: str | None = None,
    ) -> requests.Response:
        timeout = self._settings.timeout
        try:
            answer = self._session.request(
                method, f'{self._api}/{path}', params=params, json=json, timeout=timeout,
                allow_redirects=False,
                headers={'Authorization': f'Token {token}'} if token is not None else None,
            )  # fmt: skip
        except requests.exceptions.Timeout as error:
            raise PatchworkError(f'{self._host} does not answer within {timeout:g} s') from error
        except requests.exceptions.RequestException as error:
            raise PatchworkError(f'{self._host} can not be reached: {_why(error)}') from error
        if answer.is_redirect:
            there = one_line(answer.headers.get('Location', ''), 200)
            raise PatchworkError(f'{self._host} moves to {there}: name that in [patchwork] url')
        return answer

    def _token(self) -> str:
        name = self._settings.token_file
        try:
            found = secret(name, 'token').strip()
        except MailError as error:
            raise PatchworkError(f'[patchwork] token_file: {error}') from error
        if not found or not found.isascii() or not found.isprintable() or ' ' in found:
            raise PatchworkError(f'[patchwork] token_file: {name}: no token in it')
        return found

    def _refused(self, answer: requests.Response, what: str) -> PatchworkError:
        """Say what the server says: a `detail`, or what is wrong with each field."""
        try:
            said = answer.json()
        except ValueError:
            said = None
        why = ''
        if isinstance(said, dict):
            detail = said.get('detail')
            why = str(detail) if detail else '; '.join(f'{k}: {v}' for k, v in said.items())
        words = f'{self._host} answers {answer.status_code} to {what}'
        return PatchworkError(f'{words}: {one_line(why, 200)}' if why else words)


def _why(error: Exception) -> str:
    """Find the innermost words of a chain of library errors."""
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    return one_line(str(getattr(inner, 'strerror', None) or inner), 200)
