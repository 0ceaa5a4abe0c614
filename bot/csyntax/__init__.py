"""
C as rules see it: definitions, variables, members, calls, and control flow.

Answers what the text of one file says, by tree-sitter, without preprocessing.
Leaves what it means across files to the rules. A file that does not parse
cleanly yields what can be had, and says so (`Source.clean`,
`Function.clean`): a rule that needs control flow says less there, never more.
One that takes too many steps to parse yields nothing (`Source.given_up`).
"""

from bot.csyntax.diff import C_FILES, added_nodes, changed_line, introduced
from bot.csyntax.flow import Flow, Point, flow_of
from bot.csyntax.source import Source, parse, text_of
from bot.csyntax.syntax import (
    Call,
    Definition,
    Function,
    Member,
    Variable,
    arguments,
    calls,
    tokens,
)
from bot.csyntax.variants import variants

__all__ = [
    'C_FILES',
    'Call',
    'Definition',
    'Flow',
    'Function',
    'Member',
    'Point',
    'Source',
    'Variable',
    'added_nodes',
    'arguments',
    'calls',
    'changed_line',
    'flow_of',
    'introduced',
    'parse',
    'text_of',
    'tokens',
    'variants',
]
