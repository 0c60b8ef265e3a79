"""The declaration of a Perl program as an analyzer: what it is sent, and what it may answer."""

from bunker.api import Address, Count, Enum, Host, Record, Score, external


class Scored(Record):
    client: Address
    site: Host
    score: Score


class MethodsSeen(Record):
    method: Enum
    count: Count


score = external(
    "perl score.pl", message="http", emits=(Scored, MethodsSeen), fields=("orig_h", "host", "uri", "method")
)
