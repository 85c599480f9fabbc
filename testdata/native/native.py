"""The native format, written from spec/native.md, spec/context.md and
spec/local.md alone. It writes; it does not read."""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field

import aesgcm


def u8(n):
    return n.to_bytes(1, "big")


def u16(n):
    return n.to_bytes(2, "big")


def u32(n):
    return n.to_bytes(4, "big")


def b64(data):
    return base64.b64encode(data).decode()


# Section 2.


def item(x):
    x = x.encode() if isinstance(x, str) else x
    return u32(len(x)) + x


def expand(data_key, label, size):
    """HKDF-Expand-SHA-512 (RFC 5869, 2.3)."""
    okm, block, n = b"", b"", 0
    while len(okm) < size:
        n += 1
        block = hmac.new(data_key, block + label.encode() + u8(n), hashlib.sha512).digest()
        okm += block
    return okm[:size]


@dataclass
class Keys:
    sealing: bytes
    tag: bytes
    commitment: bytes


def keys(data_key):
    okm = expand(data_key, "kmsencrypted/1 record", 64)
    return Keys(okm[:32], okm[32:40], okm[40:])


# Encryption contexts: None, {"text": t} or {"pairs": [[name, value], ...]}, where
# a third element says that the name is a Ruby string.


def value_text(v):
    return v if isinstance(v, str) else str(int(v))


IDENTIFIER = r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*"


def rank(pair):
    name, is_string = pair[0], len(pair) > 2
    if not is_string and re.fullmatch(IDENTIFIER + "[!?=]?", name):
        return (":" + name + ", ").encode()
    # All that the vectors need of quoting.
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return ((quoted if is_string else ":" + quoted) + ", ").encode()


SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def json_string(s):
    out = ""
    for c in s:
        if c in SHORT:
            out += SHORT[c]
        elif c < " " or c in "<>&\u2028\u2029":
            out += "\\u%04x" % ord(c)
        else:
            out += c
    return '"' + out + '"'


def context_bytes(context):
    if context is None:
        return b""
    if "text" in context:
        return context["text"].encode()
    collapsed = {}  # keeps the place of the first and the value of the last
    for p in sorted(context["pairs"], key=rank):
        collapsed[p[0]] = value_text(p[1])
    return ("{" + ",".join(json_string(n) + ":" + json_string(v) for n, v in collapsed.items()) + "}").encode()


# Section 4.


def canonical_context(context):
    if context is None:
        return b"\x00" + u32(0)
    if "text" in context:
        return b"\x02" + item(context["text"])
    pairs = sorted(context["pairs"], key=lambda p: p[0].encode())
    return b"\x01" + u32(len(pairs)) + b"".join(item(p[0]) + item(value_text(p[1])) for p in pairs)


@dataclass
class Binding:
    table: str = "customers"
    column: str = "encrypted_kms_key"
    id: list = field(default_factory=lambda: ["7"])
    context: object = field(default_factory=lambda: default_context("7"))

    def canonical(self, fmt, flags=0):
        return (item("kmsencrypted/1 binding") + u8(fmt) + u8(flags) + item(self.table) + item(self.column)
                + u32(len(self.id)) + b"".join(item(i) for i in self.id) + canonical_context(self.context))


# The flag of a version that seals records.
RECORD_SEAL = 0x01


def default_context(id, model="customers"):
    return {"pairs": [["model_name", model], ["model_id", id]]}


def commitment(data_key, canonical):
    k = keys(data_key)
    return hmac.new(k.commitment, canonical + k.tag, hashlib.sha256).digest()


# Section 3.

KEY, SECRET = 0x01, 0x02


def body(fmt, commitment, wraps, rest=b"", count=None):
    out = u8(fmt) + commitment + u8(len(wraps) if count is None else count)
    for tag, ciphertext in wraps:
        out += u8(len(tag.encode())) + tag.encode() + u16(len(ciphertext)) + ciphertext
    return out + rest


def text(version, data):
    return "v%d:%s" % (version, b64(data))


# The provider of the vectors (README.md). It keeps nothing secret.


@dataclass
class Provider:
    name: str
    tag: str
    ignores_context: bool = False

    def wrap(self, plaintext, context):
        sent = b"" if self.ignores_context else context_bytes(context)
        check = hashlib.sha256(item(self.name) + item(sent) + item(plaintext)).digest()[:8]
        return check + plaintext

    def json(self):
        return {"name": self.name, "tag": self.tag, "ignores_context": self.ignores_context}


def key_body(data_key, binding, providers, fmt=KEY, rest=b"", flags=0):
    wraps = [(p.tag, p.wrap(data_key, binding.context)) for p in providers]
    return body(fmt, commitment(data_key, binding.canonical(fmt, flags)), wraps, rest)


# Section 5.

PADDED, PLAIN = 0xC0, 0xC1


def associated_data(fmt, table, column, value_type):
    return item("kmsencrypted/1 field") + u8(fmt) + item(table) + item(column) + item(value_type)


def pad(plaintext, size):
    plaintext += b"\x80"
    return plaintext + bytes(-len(plaintext) % size)


def column(data_key, nonce, fmt, ad, plaintext):
    k = keys(data_key)
    return u8(fmt) + k.tag + aesgcm.seal(k.sealing, nonce, plaintext, ad)


# Section 6.


def secret_body(data_key, nonce, plaintext, context, provider, flags=0):
    rest = aesgcm.seal(keys(data_key).sealing, nonce, plaintext, item("kmsencrypted/1 secret"))
    return key_body(data_key, Binding("", "", [], context), [provider], SECRET, rest, flags)


# Section 7.


def record_seal(data_key, table, key_column, columns, order=None):
    """columns maps names to bytes, to None for NULL, or to text for what is no
    value in the layout of 5.1; another order makes a wrong seal."""
    message = item(table) + item(key_column)
    for name in order or sorted(columns, key=str.encode):
        value = columns[name]
        if value is not None:
            message += item(name) + item(b"" if isinstance(value, str) else value[-16:])
    return hmac.new(expand(data_key, "kmsencrypted/1 record seal", 32), message, hashlib.sha256).digest()


# spec/local.md.


def local(id, key, nonce, plaintext, context):
    ad = item("kmsencrypted/1 local") + item(id)
    if context is not None:
        ad += item(context_bytes(context))
    return u8(len(id)) + id.encode() + aesgcm.seal(key, nonce, plaintext, ad)


# spec/branch.md.

VALUE, CHILD = "kmsencrypted/1 branch", "kmsencrypted/1 branch key"


def branch_wrap(store, parent, branch, version, key, salt, nonce, plaintext, context, label=VALUE):
    wrapping = hmac.new(key, b"kmsencrypted/1 branch wrap" + salt + b"\x01", hashlib.sha512).digest()[:32]
    ad = item(label) + item(store) + item(parent) + item(branch) + u32(version)
    ad += b"\x00" if context is None else b"\x01" + item(context_bytes(context))
    return b"\x01" + u32(version) + salt + aesgcm.seal(wrapping, nonce, plaintext, ad)


def branch_row(store, parent, branch, version, created):
    """The binding of a row. created is a pair: the text in the context, and milliseconds."""
    above = [["parent", parent]] if parent else []
    context = {"pairs": above + [["store", store.hex()], ["branch", branch], ["version", str(version)], ["created", created[0]]]}
    if parent:
        return Binding("kms_branch_subkeys", id=[parent, branch, str(version)], context=context)
    return Binding("kms_branch_keys", id=[branch, str(version)], context=context)
