"""`--format mbox`: the mails that a review is worth, as mboxrd."""

import re
from collections.abc import Sequence

from bot.outgoing import Reply

FROM = b'From mboxrd@z Thu Jan  1 00:00:00 1970\n'
"""Like git and public-inbox: nobody is to read anything into this line."""
QUOTED = re.compile(rb'^(?=>*From )', re.M)


def render(replies: Sequence[Reply]) -> bytes:
    """Return the mails, each behind a `From ` line; '' for none."""
    return b''.join(FROM + QUOTED.sub(b'>', one.raw) + b'\n' for one in replies)
