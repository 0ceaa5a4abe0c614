"""
`--format sarif`: SARIF 2.1.0, for GitHub, GitLab and editors; one run a series.

A finding is placed in the tree as the series leaves it, since that is what a
viewer has: a line that a later patch moves is moved with it, a removed line
becomes the one in its place. What stands in no file (a commit message) is put
at the first line of the patch's first file, and the message says where it is.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from bot import __version__
from bot.model import Evidence, FileDiff, Finding, Review, Step, Suppressed
from bot.output.wording import failures_of, not_run, outcome, patch_name, place, sentence
from bot.plain import one_line, plain
from bot.rule import Rule
from bot.suppress import CONFIGURED
from bot.voice import within

SCHEMA = (
    'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json'
)
FINGERPRINT = 'vmaReviewBot/v1'
GITHUB = 'primaryLocationLineHash'
"""The one key that GitHub tells alerts apart by."""
NAME = 'vma-review-bot'
ANY_FILE = 'MAINTAINERS'
"""Where a finding is shown of a series that leaves no file: viewers drop one without a place."""


def render(reviews: Sequence[Review], rules: Sequence[Rule], documentation: str = '') -> str:
    """
    Return the log. `rules` are those that were run.

    `documentation` is the address of the folder that has `docs/rules.md`, '' for none.
    """
    several = len(reviews) > 1
    runs = [
        _Run(review, rules, documentation).as_object(number if several else None)
        for number, review in enumerate(reviews, 1)
    ]
    log = {'$schema': SCHEMA, 'version': '2.1.0', 'runs': runs}
    return json.dumps(log, ensure_ascii=False, indent=1)


class _Run:
    def __init__(self, review: Review, rules: Sequence[Rule], documentation: str) -> None:
        self.review = review
        self.rules = rules
        self.index = {rule.id: number for number, rule in enumerate(rules)}
        self.documentation = documentation if documentation.startswith(('http:', 'https:')) else ''
        self.steps = review.applied.steps if review.applied is not None else ()
        self.seen: Counter[str] = Counter()

    def as_object(self, number: int | None) -> dict[str, Any]:
        driver: dict[str, Any] = {
            'name': NAME,
            'version': __version__,
            'semanticVersion': __version__,
            'rules': [self._rule(rule) for rule in self.rules],
        }
        if self.documentation:
            driver['informationUri'] = self.documentation
        run: dict[str, Any] = {
            'tool': {'driver': driver},
            'invocations': [self._invocation()],
            'originalUriBaseIds': {'SRCROOT': {'description': {'text': 'The kernel tree.'}}},
            'columnKind': 'unicodeCodePoints',
            'results': [
                *(self._result(finding) for finding in self.review.findings),
                *(self._suppressed(one) for one in self.review.suppressed),
            ],
            'properties': self._properties(),
        }
        if number is not None:
            # GitHub takes several runs of a tool only where these differ.
            run['automationDetails'] = {'id': f'{NAME}/{number}/'}
        return run

    def _rule(self, rule: Rule) -> dict[str, Any]:
        told: dict[str, Any] = {
            'id': rule.id,
            'shortDescription': {'text': rule.summary},
            'fullDescription': {'text': ' '.join(rule.doc.split())},
            'help': {'text': rule.doc.strip(), 'markdown': rule.doc.strip()},
            'defaultConfiguration': {'level': rule.severity.label},
        }
        if self.documentation:
            told['helpUri'] = f'{self.documentation.rstrip("/")}/docs/rules.md#{rule.id}'
        return told

    def _invocation(self) -> dict[str, Any]:
        notes = []
        for failure in failures_of(self.review):
            where = f'patch {failure.n}: ' if failure.n else ''
            note: dict[str, Any] = {
                'level': 'error',
                'message': {'text': _text(f'{failure.what}: {where}{failure.error}')},
                'descriptor': {'id': failure.what},
            }
            if failure.what in self.index:
                note['associatedRule'] = {'id': failure.what, 'index': self.index[failure.what]}
            notes.append(note)
        for build in not_run(self.review):
            where = f'patch {build.n}' if build.n else 'the base'
            text = _text(f'{build.harness} at {where}: {outcome(build)}')
            notes.append(
                {'level': 'error', 'message': {'text': text}, 'descriptor': {'id': build.harness}}
            )
        notes += [
            {'level': 'note', 'message': {'text': _text(remark)}} for remark in self.review.remarks
        ]
        return {
            'executionSuccessful': self.review.verdict != 'could-not-check',
            'toolExecutionNotifications': notes,
        }

    def _properties(self) -> dict[str, Any]:
        series, applied = self.review.series, self.review.applied
        return {
            'verdict': self.review.verdict,
            'series': _text(patch_name(self.review, 0)) if series is not None else None,
            'msgid': plain(series.msgid) if series is not None and series.msgid else None,
            'base': applied.base.commit if applied is not None else None,
        }

    def _suppressed(self, one: Suppressed) -> dict[str, Any]:
        kind = 'external' if one.reason.endswith(CONFIGURED) else 'inSource'
        reason = _text(one_line(one.reason, 300))
        return {
            **self._result(one.finding),
            'suppressions': [{'kind': kind, 'status': 'accepted', 'justification': reason}],
        }

    def _result(self, finding: Finding) -> dict[str, Any]:
        hit = finding.hit
        self.seen[finding.fingerprint] += 1
        result: dict[str, Any] = {
            'ruleId': finding.rule,
            'level': finding.severity.label,
            'message': {'text': _text(f'{sentence(hit)} ({self._where(finding)})')},
            'locations': [self._location(finding)],
            'partialFingerprints': {
                FINGERPRINT: finding.fingerprint,
                GITHUB: f'{finding.fingerprint}:{self.seen[finding.fingerprint]}',
            },
            'properties': {
                'patch': hit.n,
                'side': hit.side,
                'line': hit.line,
                'symbol': plain(hit.symbol) if hit.symbol is not None else None,
            },
        }
        if finding.rule in self.index:
            result['ruleIndex'] = self.index[finding.rule]
        if hit.evidence:
            result['relatedLocations'] = [
                {'id': number, **self._shown(one, hit.n)}
                for number, one in enumerate(hit.evidence, 1)
            ]
        if hit.flow:
            steps = [
                {'location': self._shown(one, hit.n), 'executionOrder': number}
                for number, one in enumerate(hit.flow, 1)
            ]
            result['codeFlows'] = [{'threadFlows': [{'locations': steps}]}]
        return result

    def _where(self, finding: Finding) -> str:
        """Say which patch it is, and what of it where no line of a file can show that."""
        hit = finding.hit
        number, _, subject = patch_name(self.review, hit.n).partition(' ')
        said = f'patch {number} {within(subject)}' if hit.n else 'the series as a whole'
        if hit.side != 'new' or hit.path is None or hit.line is None:
            said += f'; {place(finding)}' if place(finding) else ''
        return said

    def _location(self, finding: Finding) -> dict[str, Any]:
        hit = finding.hit
        if hit.side == 'message' or hit.path is None:
            return _physical(self._first_file(hit.n), 1)
        if hit.line is None:
            return _physical(self._left_at(hit.path, 1, hit.n + 1)[0], 1)
        first = hit.n if hit.side == 'old' else hit.n + 1
        location = _physical(*self._left_at(hit.path, hit.line, first))
        step = next((step for step in self.steps if step.n == hit.n), None)
        diff = step.file(hit.path) if step is not None else None
        quoted = diff.line_at(hit.side, hit.line) if diff is not None else None
        if quoted is not None and hit.side == 'new':
            text = plain(quoted[1:].decode('utf-8', 'replace').rstrip('\r\n'), 400)
            location['physicalLocation']['region']['snippet'] = {'text': text}
        return location

    def _shown(self, one: Evidence, n: int) -> dict[str, Any]:
        text = _text(one_line(one.text)) or one_line(one.path)
        return {**_physical(*self._left_at(one.path, one.line, n + 1)), 'message': {'text': text}}

    def _first_file(self, n: int) -> str:
        """Return the first file of a patch (or of the series) that is still there at the end."""
        names = [
            self._left_at(diff.path, 1, step.n + 1)[0]
            for step in self.steps
            if n in (0, step.n)
            for diff in step.files
            if diff.new_path is not None
        ]
        return names[0] if names else ANY_FILE

    def _left_at(self, path: str, line: int, first: int) -> tuple[str, int]:
        """Follow a line of `path` through the patches from `first` on, to the series' end."""
        for diff in _diffs_of(self.steps, path, first):
            if diff.new_path is None:
                break
            path, line = diff.new_path, _moved(diff, line)
        return path, line


def _diffs_of(steps: Sequence[Step], path: str, first: int) -> Iterator[FileDiff]:
    for step in steps:
        if step.n < first:
            continue
        diff = next((diff for diff in step.files if diff.old_path == path), None)
        if diff is not None:
            yield diff
            path = diff.new_path or path


def _moved(diff: FileDiff, line: int) -> int:
    """Return where a line of the pre-image is in the post-image, or what takes its place."""
    shift = 0
    for hunk in diff.hunks:
        # A side without lines names the line before it.
        old = hunk.old_start + (hunk.old_count == 0)
        new = hunk.new_start + (hunk.new_count == 0)
        if line < old:
            break
        if line >= old + hunk.old_count:
            shift = new + hunk.new_count - old - hunk.old_count
            continue
        last = new + hunk.new_count - 1
        for marked in hunk.lines:
            if old == line and marked[:1] != b'+':
                break
            old += marked[:1] != b'+'
            new += marked[:1] != b'-'
        return max(min(new, last), 1)
    return line + shift


def _physical(path: str, line: int) -> dict[str, Any]:
    uri = quote(path, safe='/', errors='surrogateescape')
    return {
        'physicalLocation': {
            'artifactLocation': {'uri': uri, 'uriBaseId': 'SRCROOT'},
            'region': {'startLine': max(line, 1)},
        }
    }


def _text(text: str) -> str:
    """Return plain text: what a stranger wrote makes no link."""
    return plain(text).replace('](', '] (')
