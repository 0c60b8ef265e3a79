"""A record with a field of each kind, and policies over it."""

from __future__ import annotations

import hashlib

from bunker.model.fields import Field, FieldType, RecordSchema
from bunker.policy.load import Policy, policy_of

HEAD = """[policy]
format = 1
name = "test"
purpose = "tests"
"""
VISIT = RecordSchema(
    name="visit",
    fields=(
        Field(name="ts", type=FieldType.TIME),
        Field(name="orig_h", type=FieldType.ADDRESS),
        Field(name="resp_p", type=FieldType.PORT),
        Field(name="host", type=FieldType.HOST, nullable=True),
        Field(name="uri", type=FieldType.URL, nullable=True),
        Field(name="agent", type=FieldType.USER_AGENT, nullable=True),
        Field(name="ja4", type=FieldType.FINGERPRINT, nullable=True),
        Field(name="body", type=FieldType.CONTENT, nullable=True),
        Field(name="notes", type=FieldType.TEXT_LIST, nullable=True),
        Field(name="kind", type=FieldType.ENUM, words=("one", "other")),
        Field(name="method", type=FieldType.ENUM),
        Field(name="status", type=FieldType.CODE),
        Field(name="size", type=FieldType.BYTES),
        Field(name="score", type=FieldType.SCORE),
        Field(name="mac", type=FieldType.MAC, nullable=True),
        Field(name="sender", type=FieldType.MAIL_ADDRESS, nullable=True),
        Field(name="hits", type=FieldType.TEXT_LIST, nullable=True),
    ),
)
TIMELESS = RecordSchema(name="timeless", fields=(Field(name="size", type=FieldType.BYTES),))
SCHEMAS = {"visit": VISIT, "timeless": TIMELESS}
NAMES = b"example.com\nexample.org news  # with a class\n"
LISTS = {"names.txt": NAMES}
NAMED = f'[lists]\npublic = {{ file = "names.txt", sha256 = "{hashlib.sha256(NAMES).hexdigest()}" }}\n'


def read(text: str, lists: dict[str, bytes] | None = None) -> Policy:
    return policy_of(text, SCHEMAS, lists or LISTS, name="p.toml")


def out(lines: str) -> str:
    return f"{HEAD}[out.visit]\n{lines}\n"


WHOLE = (
    HEAD
    + """accept = ["noise-beside-rows", "noise-beside-value"]
[keys]
epoch = "hour"
[sites]
internal = ["198.51.100.0/22", "2001:db8:77::/48"]
services = { tcp = [80, 443], udp = [53] }
domains = ["example.org"]
[addresses]
names = "pfx"
"""
    + NAMED
    + """[gate]
min_k = 3
window = "hour"
rows = { visit = { by = ["kind"] } }
sample = { visit = { share = 0.25 } }
delay = "window"
[passes]
scanners = { do = "split" }
[privacy]
epsilon = 2.0
unit = "orig_h"
rows_per_unit = 10
[id.client]
from = "orig_h"
do = "tag"
[out.visit]
ts = { do = "shift+grain", grain = "1s" }
client = "id.client"
role = { do = "role", from = "orig_h" }
net = { do = "truncate", from = "orig_h" }
resp_p = "service"
host = { do = "topk", list = "public", other = "etld1_tag" }
labels = { do = "count", from = "host" }
path = { do = "chain", from = "uri", with = "host" }
ext = { do = "ext", from = "uri", values = ["html"], other = "other" }
params = { do = "param_names", from = "uri", values = ["q"] }
agent = { do = "family_major", topk = 20, other = "rare" }
ja4 = { do = "topk", k = 5, other = "rare" }
body = "present"
notes = "pfx"
kind = { do = "keep", because = "a word of ours" }
status = { do = "allow", values = "100-599", other = 0 }
size = { do = "bucket", edges = "log2" }
score = { do = "bucket", edges = [-5, 0, 5] }
number = { do = "enum", from = "orig_h" }
order = { do = "enum", from = "ts" }
since = { do = "rel", from = "ts", grain = "1min" }
about = { do = "noise", from = "size", scale = 1000 }
nothing = { do = "const", from = "status", value = 0 }
family = { do = "ja4_a", from = "ja4" }
maker = { do = "oui_top", from = "mac", k = 4, other = "rare" }
sender = "role"
hits = { do = "allow", values = ["SPF_PASS", "URIBL_*"] }
[aggregate.posts]
of = "visit"
do = "count"
by = "method"
keys = ["GET", "POST"]
epsilon = 1.0
[aggregate.bytes]
of = "visit"
do = "sum"
field = "size"
bounds = [0, 100000]
where = { kind = ["one"] }
epsilon = 0.5
"""
)
