"""Names for the authors of analyzers.

    from bunker.api import analyzer, Record, Address, Host, Count, http

    class Visit(Record):
        client: Address
        site: Host

    @analyzer(emits=Visit)
    def visits(tx: http.Transaction, emit):
        if tx.host:
            emit(Visit(client=tx.client, site=tx.host))

An analyzer is ordinary Python. It may use any library the box carries and be as slow as it likes; it runs without
network and without files. What it emits is raw until the policy has cleared it field by field.
"""

from bunker.api import dhcp, dns, flow, http, mail, ntp, packet, ssh, stream, tls, udp
from bunker.api.declare import analyzer, feeder
from bunker.api.external import external
from bunker.model.analyzer import Analyzer, Emit
from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.model.messages import message_class, message_record
from bunker.model.record import (
    Address,
    AddressList,
    Bytes,
    Code,
    Content,
    Count,
    Digest,
    Duration,
    Enum,
    Fingerprint,
    Flag,
    Flags,
    FlowId,
    Host,
    Mac,
    MailAddress,
    Mime,
    Port,
    Record,
    Score,
    Text,
    TextList,
    Time,
    Url,
    UserAgent,
    Vlan,
)
from bunker.native.clear import registrable_domain

__all__ = [
    "Address",
    "AddressList",
    "Analyzer",
    "Bytes",
    "Code",
    "Content",
    "Count",
    "Digest",
    "Duration",
    "Emit",
    "Enum",
    "Field",
    "FieldType",
    "Fingerprint",
    "Flag",
    "Flags",
    "FlowId",
    "Host",
    "Mac",
    "MailAddress",
    "Mime",
    "Port",
    "Record",
    "RecordSchema",
    "Score",
    "Text",
    "TextList",
    "Time",
    "Url",
    "UserAgent",
    "Vlan",
    "analyzer",
    "dhcp",
    "dns",
    "external",
    "feeder",
    "flow",
    "http",
    "mail",
    "message_class",
    "message_record",
    "ntp",
    "packet",
    "registrable_domain",
    "ssh",
    "stream",
    "tls",
    "udp",
]
