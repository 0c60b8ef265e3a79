"""The declaration of SpamAssassin as an analyzer: what it is sent, and what it may answer."""

from bunker.api import Address, Count, Flag, Record, Score, external


class Judged(Record):
    client: Address
    score: Score
    rules: Count
    spam: Flag


spam = external(
    "perl spam.pl",
    message="mail",
    emits=Judged,
    fields=("orig_h", "head", "body"),
    needs=("heads", "bodies"),
    libraries=("/usr/share/perl", "/usr/share/perl5", "/etc/perl", "/usr/share/spamassassin", "/etc/spamassassin"),
)
