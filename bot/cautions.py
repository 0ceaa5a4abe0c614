"""
What an operator should think about before mails go: pure.

Answers what in a policy would reach somebody who did not ask for it, or lets
mails go with nobody looking. None of it is an error: `policy.py` keeps mails
from lists that did not consent, whatever the configuration says.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from bot.outgoing import Policy
from bot.policy import is_list


def cautions(policy: Policy, reply_to: str, envelope: str) -> Iterator[tuple[str, str]]:
    """Yield what to think about, and what mends it."""
    yield from _consent(policy, reply_to, envelope)
    yield from _care(policy, reply_to)


def _consent(policy: Policy, reply_to: str, envelope: str) -> Iterator[tuple[str, str]]:
    """What would come to somebody who did not ask for it."""
    if not policy.lists:
        yield 'no list has consented: nothing is ever mailed', '[mail] lists'
    if not policy.address:
        yield 'the bot has no address: nothing is ever mailed', '[mail] from'
    agreed = '[mail] lists, once its people have agreed'
    for one in policy.by_list:
        if not any(_covers(one.list, name) for name in policy.lists):
            yield f'[[mail.policy]] {one.list} fits no list that has consented', agreed
    for what, address in (('reply_to', reply_to), ('envelope', envelope)):
        if address and address.lower() not in policy.lists and is_list(address):
            mend = f"a human's address as {what}, or the list in [mail] lists"
            yield f'{what} = "{address}" looks like a list that has not consented', mend
    for name in policy.lists:
        if name == policy.address.lower():
            yield f'[mail] from is a list, {name}', "an address of the bot's own"
        elif not is_list(name):
            yield f'[mail] lists: {name} does not look like a list', 'lists alone'


def _care(policy: Policy, reply_to: str) -> Iterator[tuple[str, str]]:
    """What lets mails go with nobody looking."""
    sending = [name for name in policy.lists if _mode(policy, name) == 'send']
    for name in sending:
        if not max((policy.embargo, *_embargoes(policy, name))):
            yield (
                f'mails to {name} go by themselves, without an embargo: humans do not go first',
                '[mail] embargo = "6h"',
            )
    if sending and policy.embargo >= policy.max_age:
        yield 'embargo is no shorter than max_age: nothing ever goes', '[mail] embargo, max_age'
    if sending and not reply_to:
        yield 'mails go by themselves, and answers reach no human', '[mail] reply_to'


def _mode(policy: Policy, name: str) -> str:
    modes = [one.mode for one in policy.by_list if one.mode and _covers(one.list, name)]
    return 'send' if {policy.mode, *modes} == {'send'} else 'hold'


def _embargoes(policy: Policy, name: str) -> list[float]:
    return [one.embargo for one in policy.by_list if one.embargo and _covers(one.list, name)]


def _covers(glob: str, name: str) -> bool:
    return fnmatchcase(name.lower(), glob.lower())
