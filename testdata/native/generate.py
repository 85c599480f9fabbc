"""Writes the vectors of the native format: python3 generate.py

It needs Python 3.9 or later and its standard library alone. The same text comes out every
time. README.md describes the files.
"""

import base64
import dataclasses
import hashlib
import json
import pathlib

import native
from native import Binding, Provider, b64, text

HERE = pathlib.Path(__file__).parent


def fixed(label, size):
    """Bytes that look random and are the same every time."""
    return hashlib.shake_256(label.encode()).digest(size)


def nonce(label):
    return fixed("nonce " + label, 12)


K1, K2 = fixed("data key 1", 32), fixed("data key 2", 32)
SERVICE = Provider("one", "vector one")
OTHER = Provider("two", "vector two")
BLIND = Provider("blind", "vector blind", ignores_context=True)
ROW = Binding()  # customers 7


def flip(data, i):
    i %= len(data)
    return data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]


def write(name, section, cases):
    names = [c["name"] for c in cases]
    assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
    lines = ",\n".join("  " + json.dumps(c, ensure_ascii=True) for c in cases)
    head = '{"source": "generate.py", "section": %s,\n "cases": [\n' % json.dumps(section)
    (HERE / name).write_text(head + lines + "\n]}\n")
    print("%-18s %3d cases" % (name, len(cases)))


# Section 2.


def canonical_lists():
    lists = [[], [""], ["", ""], ["a"], ["a", "b"], ["ab"], ["ab", ""], ["", "ab"], ["é"], ["x" * 256]]
    return [{"name": "list %d" % i, "items": items, "encoding": b"".join(map(native.item, items)).hex()}
            for i, items in enumerate(lists)]


def data_keys():
    cases = []
    for name, k in {"zeros": bytes(32), "counting": bytes(range(32)), "ones": b"\xff" * 32, "random": K1}.items():
        derived = native.keys(k)
        labels = [("kmsencrypted/1 record", 64), ("kmsencrypted/1 record seal", 32), ("", 1), ("example", 200)]
        cases.append({
            "name": name, "data_key": k.hex(), "sealing_key": derived.sealing.hex(), "key_tag": derived.tag.hex(),
            "commitment_key": derived.commitment.hex(),
            "derived": [{"label": l, "bytes": native.expand(k, l, n).hex()} for l, n in labels],
            "key_column": text(1, native.key_body(k, ROW, [SERVICE])),
            "sealed": native.aesgcm.seal(derived.sealing, nonce(name), b"plaintext", b"associated data").hex(),
        })
    return cases


# Sections 3 and 4.


def key_case(name, column, binding=ROW, providers=(SERVICE,), error=None, data_key=K1, written=True, fmt=native.KEY, **recipe):
    case = {"name": name, "recipe": {"version": 1, **recipe}, "providers": [p.json() for p in providers],
            "binding": dataclasses.asdict(binding), "column": column}
    if error:
        return {**case, "error": error}
    canonical = binding.canonical(fmt, native.RECORD_SEAL if recipe.get("record_seal") else 0)
    return {**case, "data_key": data_key.hex(), "canonical_binding": canonical.hex(),
            "commitment": native.commitment(data_key, canonical).hex(), "written": written}


def good_keys():
    def sealed(binding=ROW, version=1, providers=(SERVICE,), data_key=K1):
        return text(version, native.key_body(data_key, binding, providers))

    cases = [key_case("version %d" % v, sealed(version=v), version=v) for v in (0, 1, 12, 2**31 - 1)]
    cases.append(key_case("another data key", sealed(data_key=K2), data_key=K2))
    contexts = {
        "absent": None,
        "empty list": {"pairs": []},
        "empty text": {"text": ""},
        "text": {"text": "tenant-1"},
        "text that looks like pairs": {"text": '{"a":"1"}'},
        "the same pairs": {"pairs": [["a", "1"]]},
        "integer": {"pairs": [["a", 1]]},
        "negative and large integers": {"pairs": [["a", -1], ["b", 2**80]]},
        "order of pairs": {"pairs": [["b", "2"], ["a", "1"], ["B", "3"]]},
        "prefixes": {"pairs": [["ab", "1"], ["a", "2"], ["a!", "3"], ["a b", "4"]]},
        "empty names and values": {"pairs": [["", ""], ["a", ""]]},
        "Unicode": {"pairs": [["é", "\u65e5\u672c"], ["z", "\U0001f511"]]},
        "escapes": {"pairs": [["a", "<a href=\"/\">&\\\u2028\u2029\n\x01\x7f"]]},
        "a string and a symbol of one name": {"pairs": [["a", "first"], ["a", "last", "string"]]},
    }
    for name, context in contexts.items():
        b = Binding(context=context)
        cases.append(key_case("context: " + name, sealed(b), b))
    bindings = {
        "no id": (Binding(id=[]), {"omit_id": True}),
        "id left out": (Binding(id=["7"]), {"omit_id": True}),
        "compound id": (Binding(id=["1", "23"]), {}),
        "compound id, other cut": (Binding(id=["12", "3"]), {}),
        "empty id": (Binding(id=[""]), {}),
        "other table": (Binding(table="accounts"), {}),
        "no table and column": (Binding(table="", column=""), {}),
        "names cut elsewhere": (Binding(table="customersenc", column="rypted_kms_key"), {}),
    }
    for name, (b, recipe) in bindings.items():
        bound = dataclasses.replace(b, id=[]) if recipe else b
        case = key_case("binding: " + name, sealed(bound), bound, **recipe)
        cases.append({**case, "binding": dataclasses.asdict(b)})
    long_tag = Provider("one", "t" * 255)
    cases += [
        key_case("a provider that ignores the context", sealed(providers=[BLIND]), providers=[BLIND]),
        key_case("a provider without a tag", sealed(providers=[Provider("one", "")]), providers=[Provider("one", "")]),
        key_case("the longest tag", sealed(providers=[long_tag]), providers=[long_tag]),
        key_case("two wraps by two providers", sealed(providers=[SERVICE, OTHER]), providers=[SERVICE, OTHER]),
        key_case("two wraps, the first provider is gone", sealed(providers=[SERVICE, OTHER]), providers=[OTHER], written=False),
        key_case("two wraps without the reader's tag", sealed(providers=[OTHER, SERVICE]),
                 providers=[Provider("one", "renamed")], written=False),
        key_case("one wrap with another tag", sealed(), providers=[Provider("one", "renamed")], written=False),
    ]
    broken = ("vector one", bytes(40))
    b = native.body(native.KEY, native.commitment(K1, ROW.canonical(1)), [broken, ("vector one", SERVICE.wrap(K1, ROW.context))])
    cases.append(key_case("two wraps with the reader's tag, the first does not open", text(1, b), written=False))
    b = native.key_body(K1, ROW, [OTHER] * 15 + [SERVICE])
    cases.append(key_case("16 wraps", text(1, b), written=False))
    # Wrap writes no record seal; the model does.
    cases.append(key_case("a version that seals records", text(1, sealing(ROW)), written=False, record_seal=True))
    cases.append(key_case("a version that seals records and leaves the id out", text(1, sealing(dataclasses.replace(ROW, id=[]))),
                          dataclasses.replace(ROW, id=[]), written=False, record_seal=True, omit_id=True))
    return cases


def sealing(binding, providers=(SERVICE,)):
    """The body of a key column under a version that seals records; no other column has a value."""
    seal = native.record_seal(K1, binding.table, binding.column, {})
    return native.key_body(K1, binding, providers, rest=seal, flags=native.RECORD_SEAL)


def refused_keys():
    good = native.key_body(K1, ROW, [SERVICE])
    b = b64(good)
    cases = []

    def refuse(error, name, column, *args, **more):
        cases.append(key_case(name, column, *args, error=error, **more))

    # The text.
    for name, column in {
        "empty text": "", "no prefix": b, "no colon": "v1" + b, "no version": "v:" + b, "capital V": "V1:" + b,
        "leading zero": "v01:" + b, "plus sign": "v+1:" + b, "negative version": "v-1:" + b, "space before the version": "v 1:" + b,
        "space before the prefix": " v1:" + b, "version out of range": "v18446744073709551617:" + b, "no body": "v1:",
        "Ruby's test key": "v1:" + b64(b"\x8a{\x1er\xea\xde\xf9\xd6\xadk\xe0:" + b64(K1).encode()),
        "line break at the end": "v1:" + b + "\n", "line break inside": "v1:" + b[:60] + "\n" + b[60:], "space inside": "v1:" + b[:60] + " " + b[60:],
        "something behind": "v1:" + b + "A", "another group behind": "v1:" + b + "AAAA",
        "URL-safe alphabet": "v1:" + base64.urlsafe_b64encode(native.body(1, b"\xff" * 32, [("", b"")])).decode(),
    }.items():
        refuse("ErrMalformed", "text: " + name, column)
    padded = next(x for x in (native.key_body(K1, dataclasses.replace(ROW), [Provider("one", "t" * n)]) for n in range(9)) if len(x) % 3 == 1)
    t = b64(padded)
    assert t.endswith("==")
    spare = t[:-3] + {"A": "B", "Q": "R", "g": "h", "w": "x"}[t[-3]] + "=="
    refuse("ErrMalformed", "text: no padding", "v1:" + t.rstrip("="))
    refuse("ErrMalformed", "text: half the padding", "v1:" + t[:-1])
    refuse("ErrMalformed", "text: spare bits set", "v1:" + spare)
    refuse("ErrVersionNotActive", "version that is not listed", "v2:" + b)
    refuse("ErrVersionNotActive", "no prefix, version 1 not listed", b, version=3)
    refuse("ErrVersionRetired", "retired version", "v1:" + b, version=3, min_version=2)
    refuse("ErrVersionRetired", "no prefix, version 1 retired", b, version=3, min_version=2)

    # The layout.
    c = native.commitment(K1, ROW.canonical(1))
    wrap = (SERVICE.tag, SERVICE.wrap(K1, ROW.context))
    layouts = {
        "format 00": b"\x00" + good[1:], "format 03": b"\x03" + good[1:], "format C1": b"\xc1" + good[1:],
        "a secret": native.secret_body(K1, nonce("x"), b"x", ROW.context, SERVICE),
        "no wrap": native.body(1, c, []), "count above the wraps": native.body(1, c, [wrap], count=2),
        "count below the wraps": native.body(1, c, [wrap, wrap], count=1),
        "tag size past the end": native.body(1, c, [], count=1) + b"\xff" + b"t" * 254,
        "ciphertext size past the end": native.body(1, c, [], count=1) + b"\x00\x00\x05" + b"1234",
        "17 wraps": native.body(1, c, [wrap] * 17), "255 wraps": native.body(1, c, [wrap] * 255),
        "one byte behind": good + b"\x00",
        "a record seal where the recipe has none": good + native.record_seal(K1, ROW.table, ROW.column, {}),
    }
    for n in (1, 20, 33, 34, 35, 34 + 1 + len(SERVICE.tag), 34 + 1 + len(SERVICE.tag) + 1, len(good) - 1):
        layouts["cut after %d bytes" % n] = good[:n]
    for name, data in layouts.items():
        refuse("ErrMalformed", "layout: " + name, text(1, data))
    with_seal = sealing(ROW)
    without_seal = with_seal[:-32]
    refuse("ErrMalformed", "layout: no record seal where the recipe has one", text(1, without_seal), record_seal=True)
    refuse("ErrMalformed", "layout: 31 bytes of record seal", text(1, with_seal[:-1]), record_seal=True)
    refuse("ErrMalformed", "layout: 33 bytes of record seal", text(1, with_seal + b"\x00"), record_seal=True)

    # Wraps.
    refuse("ErrDecrypt", "wrap: changed", text(1, flip(good, -1)))
    refuse("ErrDecrypt", "wrap: empty", text(1, native.body(1, c, [(SERVICE.tag, b"")])))
    refuse("ErrDecrypt", "wrap: another provider's", text(1, native.key_body(K1, ROW, [OTHER])))
    refuse("ErrDecrypt", "wrap: the reader's own does not open, another would",
           text(1, native.body(1, c, [(SERVICE.tag, bytes(40)), ("vector two", wrap[1])])))
    refuse("ErrDecrypt", "wrap: another context", text(1, good), dataclasses.replace(ROW, context=native.default_context("8")))
    for name, raw in {"no byte": b"", "31 bytes": K1[:31], "33 bytes": K1 + b"\x00", "64 bytes": K1 + K2}.items():
        refuse("ErrBinding", "wrap of " + name, text(1, native.body(1, c, [(SERVICE.tag, SERVICE.wrap(raw, ROW.context))])))
    refuse("ErrBinding", "wrap of another data key", text(1, native.body(1, c, [(SERVICE.tag, SERVICE.wrap(K2, ROW.context))])))
    refuse("ErrBinding", "wrap of another data key before the right one",
           text(1, native.body(1, c, [(SERVICE.tag, SERVICE.wrap(K2, ROW.context)), wrap])))

    # Commitment and binding.
    for i in (1, 16, 32):
        refuse("ErrBinding", "commitment: changed at byte %d" % i, text(1, flip(good, i)))
    refuse("ErrBinding", "commitment: of the other format", text(1, native.body(1, native.commitment(K1, ROW.canonical(2)), [wrap])))
    for name, canonical in {
        "a binding without flags": without_flags(ROW.canonical(native.KEY)), "a flag that no version has": ROW.canonical(native.KEY, 2),
        "flags of ones": ROW.canonical(native.KEY, 0xff),
    }.items():
        refuse("ErrBinding", "commitment: to " + name, text(1, native.body(1, native.commitment(K1, canonical), [wrap])))

    # Two versions with one key and context, of which one seals records.
    refuse("ErrBinding", "flags: relabelled with a version that does not seal, the seal cut off", text(2, without_seal), version=2)
    refuse("ErrMalformed", "flags: relabelled with a version that does not seal, the seal left", text(2, with_seal), version=2)
    refuse("ErrBinding", "flags: relabelled with a version that seals, a seal put behind", text(2, good + with_seal[-32:]), version=2, record_seal=True)
    refuse("ErrMalformed", "flags: relabelled with a version that seals", text(2, good), version=2, record_seal=True)

    blind = native.key_body(K1, ROW, [BLIND])
    for name, changed in {
        "table": {"table": "accounts"}, "key column": {"column": "encrypted_kms_key_phone"}, "id": {"id": ["8"]}, "no id": {"id": []},
        "another id more": {"id": ["7", ""]}, "name cut elsewhere": {"table": "customer", "column": "sencrypted_kms_key"},
        "context": {"context": native.default_context("8")}, "absent context": {"context": None}, "context of a pair more":
            {"context": {"pairs": ROW.context["pairs"] + [["tenant", "1"]]}},
    }.items():
        refuse("ErrBinding", "other " + name, text(1, blind), dataclasses.replace(ROW, **changed), providers=[BLIND])
    two = dataclasses.replace(ROW, id=["1", "23"])
    refuse("ErrBinding", "compound id cut elsewhere", text(1, native.key_body(K1, two, [SERVICE])), dataclasses.replace(ROW, id=["12", "3"]))
    pairs, same = Binding(context={"pairs": [["a", "1"]]}), Binding(context={"text": '{"a":"1"}'})
    refuse("ErrBinding", "text for pairs of the same bytes", text(1, native.key_body(K1, pairs, [SERVICE])), same)
    absent, empty = Binding(context=None), Binding(context={"text": ""})
    refuse("ErrBinding", "absent for empty context", text(1, native.key_body(K1, empty, [SERVICE])), absent)
    refuse("ErrBinding", "empty for absent context", text(1, native.key_body(K1, absent, [SERVICE])), empty)
    no_id = dataclasses.replace(ROW, id=[])
    refuse("ErrBinding", "id bound, recipe omits it", text(1, good), omit_id=True)
    refuse("ErrBinding", "id omitted, recipe binds it", text(1, native.key_body(K1, no_id, [SERVICE])))
    for name, pairs in {
        "a fraction": [["a", 1.5]], "two symbols of one name": [["a", "1"], ["b", "2"], ["a", "1"]],
        "two strings of one name": [["a", "1", "string"], ["a", "2", "string"]],
        "a symbol and two strings of one name": [["a", "1", "string"], ["a", "2"], ["a", "3", "string"]],
    }.items():
        b = Binding(context={"pairs": pairs})
        refuse("ErrContext", "context with " + name, text(1, native.key_body(K1, b, [SERVICE])), b)
    return cases


def without_flags(canonical):
    at = len(native.item("kmsencrypted/1 binding")) + 1
    return canonical[:at] + canonical[at + 1:]


# Section 5.

TABLE, COLUMN = "customers", "value_ciphertext"


def field_case(name, row, value_type, plaintext=b"", value=None, fmt=native.PLAIN, size=0, stored=None, error=None, written=True,
               data_key=K1, binding=ROW, table=TABLE, column=COLUMN, binary=False):
    """stored, if given, is what is in the column in place of the right bytes."""
    ad = native.associated_data(fmt, table, column, value_type)
    inner = native.pad(plaintext, size) if fmt == native.PADDED and size else plaintext
    if stored is None:
        stored = native.column(data_key, nonce(name), fmt, ad, inner)
    if isinstance(stored, bytes):
        stored = {"b64": b64(stored)} if binary else {"text": b64(stored)}
    case = {"name": name, "row": row, "key_column": text(1, native.key_body(K1, binding, [SERVICE])), "column": stored}
    if error:
        return {**case, "error": error}
    return {**case, "value": value, "sealing_key": native.keys(K1).sealing.hex(), "associated_data": ad.hex(),
            "plaintext": inner.hex(), "written": written}


def good_fields():
    def i(n):
        return n.to_bytes(8, "big", signed=n < 0)

    point = fixed("point", 2)
    values = [
        ("string", "string", b"ada@example.org", "ada@example.org"), ("empty string", "string", b"", ""),
        ("Unicode string", "string", "Zoë \U0001f511".encode(), "Zoë \U0001f511"),
        ("long string", "string", b"x" * 1000, "x" * 1000),
        ("bytes", "bytes", b"\x00\xff\x80", b64(b"\x00\xff\x80")), ("empty bytes", "bytes", b"", ""),
        ("false", "bool", b"\x00", False), ("true", "bool", b"\x01", True),
        ("int64 zero", "int64", i(0), 0), ("int64 minimum", "int64", i(-2**63), -2**63), ("int64 maximum", "int64", i(2**63 - 1), 2**63 - 1),
        ("int8 minimum", "int8", i(-128), -128), ("int8 maximum", "int8", i(127), 127),
        ("uint64 maximum", "uint64", i(2**64 - 1), 2**64 - 1), ("uint8 maximum", "uint8", i(255), 255),
        ("float64", "float64", bytes.fromhex("3ff8000000000000"), 1.5), ("float64 negative zero", "float64", bytes.fromhex("8000000000000000"), -0.0),
        ("float64 tenth", "float64", bytes.fromhex("3fb999999999999a"), 0.1), ("float32", "float32", bytes.fromhex("3ff8000000000000"), 1.5),
        ("datetime", "datetime", b"2024-02-29T23:34:56.000000789Z", "2024-02-29T23:34:56.000000789Z"),
        ("datetime of year 0", "datetime", b"0000-01-01T00:00:00.000000000Z", "0000-01-01T00:00:00Z"),
        ("datetime of year 9999", "datetime", b"9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("date", "date", b"1815-12-10", "1815-12-10T00:00:00Z"), ("time", "time", b"23:34:56.000000789", "0000-01-01T23:34:56.000000789Z"),
        ("addr", "addr", b"2001:db8::1", "2001:db8::1"), ("zero addr", "addr", b"", ""), ("prefix", "prefix", b"10.0.0.0/8", "10.0.0.0/8"),
        ("text", "text", b"4611686018427387904", 2**62), ("json map", "json", b'{"a":[1.5,null],"b":"x"}', {"a": [1.5, None], "b": "x"}),
        ("json string", "json string", b'"x"', "x"), ("custom", "custom", point, list(point)),
        ("pointer", "pointer", b"x", "x"), ("sql.Null", "sql.Null", i(5), {"V": 5, "Valid": True}),
    ]
    types = {"int64": "int", "int8": "int", "uint64": "uint", "uint8": "uint", "float64": "float", "float32": "float", "json string": "json",
             "custom": "custom:point", "pointer": "string", "sql.Null": "int"}
    cases = [field_case(name, row, types.get(row, row), p, v) for name, row, p, v in values]
    cases += [
        field_case("json with spaces", "json", "json", b' { "b" : 1 }\n', {"b": 1}, written=False),
        field_case("int64 read as a smaller type", "int8", "int", i(5), 5),
        field_case("binary column", "binary", "string", b"x", "x", binary=True),
        field_case("binary column that begins with padding's format", "binary", "string", b"x", "x", fmt=native.PADDED, size=16, binary=True, written=False),
        field_case("renamed table and column", "pinned", "string", b"x", "x"),
        field_case("NULL", "string", "string", stored={"null": True}, value="", written=False),
    ]
    for n in (0, 1, 15, 16, 31):
        cases.append(field_case("padding of %d bytes" % n, "padded", "string", b"x" * n, "x" * n, fmt=native.PADDED, size=16))
    cases += [
        {**field_case("padding keeps zeros and 80", "padded", "string", b"x\x80\x00\x80\x00", fmt=native.PADDED, size=16),
         "value_b64": b64(b"x\x80\x00\x80\x00")},
        field_case("padded, the option is off now", "string", "string", b"x", "x", fmt=native.PADDED, size=16, written=False),
        field_case("not padded, the option is on now", "padded", "string", b"x", "x", written=False),
        field_case("padded to another size", "padded", "string", b"x", "x", fmt=native.PADDED, size=7, written=False),
        field_case("padded to one byte", "padded", "string", b"x" * 20, "x" * 20, fmt=native.PADDED, size=1, written=False),
    ]
    return cases


def refused_fields():
    ad = native.associated_data(native.PLAIN, TABLE, COLUMN, "string")
    padded_ad = native.associated_data(native.PADDED, TABLE, COLUMN, "string")
    good = native.column(K1, nonce("refused"), native.PLAIN, ad, b"ada@example.org")  # 52 bytes
    t = b64(good)
    cases = []

    def refuse(error, name, stored, row="string", **more):
        stored = {"text": stored} if isinstance(stored, str) else stored
        cases.append(field_case(name, row, "string", stored=stored, error=error, **more))

    for name, column in {
        "empty text": "", "plaintext": "ada@example.org", "plaintext that is base64": "customer", "plaintext in base64": b64(b"ada@example.org"),
        "zeros": b64(bytes(60)), "format BF": b64(b"\xbf" + good[1:]), "format C2": b64(b"\xc2" + good[1:]), "format 01": b64(b"\x01" + good[1:]),
        "a Lockbox value": b64(good[9:]), "two characters": "wQ", "a key column": text(1, native.key_body(K1, ROW, [SERVICE])),
        "line break before": "\n" + t, "line break within the first group": t[:2] + "\n" + t[2:], "base64 twice": b64(t.encode()),
    }.items():
        refuse("ErrNotCiphertext", "no ciphertext: " + name, column)
    refuse("ErrNotCiphertext", "no ciphertext: text in a binary column", t.encode(), row="binary", binary=True)
    refuse("ErrNotCiphertext", "no ciphertext: nothing in a binary column", b"", row="binary", binary=True)
    short = native.column(K1, nonce("short"), native.PLAIN, ad, b"")  # 37 bytes, so the last character has spare bits
    spare = b64(short)
    assert spare.endswith("==")
    for name, column in {
        "format byte alone": b64(good[:1]), "36 bytes": b64(good[:36]), "no padding": spare.rstrip("="),
        "spare bits set": spare[:-3] + chr(ord(spare[-3]) + 1) + "==", "line break behind": t + "\n", "line break inside": t[:20] + "\n" + t[20:],
        "URL-safe character": t[:20] + "-" + t[21:], "something behind": t + "=", "cut in the middle of a group": t[:-1],
    }.items():
        refuse("ErrMalformed", "malformed: " + name, column)
    refuse("ErrMalformed", "malformed: 36 bytes in a binary column", good[:36], row="binary", binary=True)
    refuse("ErrOtherDataKey", "under another data key", native.column(K2, nonce("k2"), native.PLAIN, ad, b"x"))
    for i in (1, 8):
        refuse("ErrOtherDataKey", "key tag changed at byte %d" % i, flip(good, i))
    for where, i in {"nonce": 9, "ciphertext": 21, "tag": -1}.items():
        refuse("ErrDecrypt", where + " changed", flip(good, i))
    refuse("ErrDecrypt", "cut by a byte", good[:-1])
    refuse("ErrDecrypt", "a byte behind", good + b"\x00")
    refuse("ErrDecrypt", "cut to 37 bytes", good[:37])
    refuse("ErrDecrypt", "format byte exchanged", b"\xc0" + good[1:])
    for name, other in {
        "of another table": ("accounts", COLUMN, "string"), "of another column": (TABLE, "phone_ciphertext", "string"),
        "of another value type": (TABLE, COLUMN, "bytes"), "with names cut elsewhere": (TABLE + "v", COLUMN[1:], "string"),
    }.items():
        refuse("ErrDecrypt", "value " + name, native.column(K1, nonce(name), native.PLAIN, native.associated_data(native.PLAIN, *other), b"x"))
    refuse("ErrDecrypt", "no associated data", native.column(K1, nonce("no ad"), native.PLAIN, b"", b"x"))
    for name, inner in {"nothing": b"", "zeros": bytes(16), "no 80": b"x" * 16, "something behind": b"x\x80\x00\x01"}.items():
        refuse("ErrMalformed", "padding: " + name, native.column(K1, nonce("padding " + name), native.PADDED, padded_ad, inner))
    refuse("ErrNoDataKey", "NULL key column", good)
    cases[-1]["key_column"] = None
    refuse("ErrBinding", "key column of another table", good, binding=dataclasses.replace(ROW, table="accounts"))
    refuse("ErrDecrypt", "key column of another record", good, binding=dataclasses.replace(ROW, id=["8"], context=native.default_context("8")))

    # Authentic, but no value of the type.
    for row, value_type, plaintexts in [
        ("bool", "bool", [b"", b"\x02", b"\x00\x00", b"t"]), ("int64", "int", [b"", bytes(7), bytes(9), b"5"]),
        ("int8", "int", [(128).to_bytes(8, "big"), (-129).to_bytes(8, "big", signed=True)]), ("uint64", "uint", [bytes(7), bytes(9)]),
        ("uint8", "uint", [(256).to_bytes(8, "big")]), ("float64", "float", [bytes(4), b"1.5"]), ("float32", "float", [bytes.fromhex("7fefffffffffffff")]),
        ("datetime", "datetime", [b"", b"2024-02-30T00:00:00.000000000Z", b"2024-02-29", b"2024-02-29T23:34:56.000000789+01:00"]),
        ("date", "date", [b"", b"2024-02-30", b"2024-02-29T00:00:00.000000000Z"]), ("time", "time", [b"", b"24:00:00.000000000", b"23:34:56"]),
        ("addr", "addr", [b"10.0.0.0/8", b"x"]), ("prefix", "prefix", [b"10.0.0.0"]), ("text", "text", [b"", b"x"]), ("json", "json", [b"", b"{", b'{} {}']),
        ("json string", "json", [b"1"]), ("custom", "custom:point", [b"x"]),
    ]:
        for p in plaintexts:
            cases.append(field_case("no %s: %s" % (row, p.hex() or "nothing"), row, value_type, p, error="ErrType"))
    return cases


# Section 6.


def secrets():
    def case(name, column, context, plaintext=None, error=None, provider=SERVICE, **recipe):
        c = {"name": name, "recipe": {"version": 1, **recipe}, "providers": [provider.json()], "context": context, "column": column}
        return {**c, "error": error} if error else {**c, "plaintext_b64": b64(plaintext)}

    tenant = {"pairs": [["tenant", "acme"]]}
    cases = []
    for name, plaintext in {"token": b"s3cr3t", "empty": b"", "long": bytes(range(256)) * 4}.items():
        cases.append(case(name, text(1, native.secret_body(K1, nonce(name), plaintext, tenant, SERVICE)), tenant, plaintext))
    for name, context in {"absent": None, "empty list": {"pairs": []}, "text": {"text": "acme"}}.items():
        cases.append(case("context: " + name, text(1, native.secret_body(K1, nonce(name), b"x", context, SERVICE)), context, b"x"))
    good = native.secret_body(K1, nonce("good"), b"s3cr3t", tenant, SERVICE)
    flagged = native.secret_body(K1, nonce("sealing"), b"s3cr3t", tenant, SERVICE, native.RECORD_SEAL)
    cases.append(case("under a recipe that seals records", text(2, flagged), tenant, b"s3cr3t", version=2, record_seal=True))
    cases.append(case("under a recipe that leaves the id out", text(2, good), tenant, b"s3cr3t", version=2, omit_id=True))

    head = len(native.key_body(K1, Binding("", "", [], tenant), [SERVICE], native.SECRET))
    other, twice = {"pairs": [["tenant", "other"]]}, {"pairs": [["tenant", "acme"], ["tenant", "acme"]]}
    blind = native.secret_body(K1, nonce("blind"), b"x", tenant, BLIND)
    k1 = native.keys(K1)

    def sealed(ad, key=k1.sealing):
        return good[:head] + native.aesgcm.seal(key, nonce("ad"), b"x", ad)

    for error, name, data, context, provider in [
        ("ErrDecrypt", "another context", good, other, SERVICE), ("ErrBinding", "another context, which the provider ignores", blind, other, BLIND),
        ("ErrBinding", "absent context, which the provider ignores", blind, None, BLIND),
        ("ErrMalformed", "a data key", native.key_body(K1, Binding("", "", [], tenant), [SERVICE]), tenant, SERVICE),
        ("ErrMalformed", "cut within the wrap", good[:head - 1], tenant, SERVICE),
        ("ErrDecrypt", "no sealed value", good[:head], tenant, SERVICE), ("ErrDecrypt", "27 bytes of sealed value", good[:head + 27], tenant, SERVICE),
        ("ErrDecrypt", "cut by a byte", good[:-1], tenant, SERVICE), ("ErrDecrypt", "a byte behind", good + b"\x00", tenant, SERVICE),
        ("ErrDecrypt", "nonce changed", flip(good, head), tenant, SERVICE), ("ErrDecrypt", "tag changed", flip(good, -1), tenant, SERVICE),
        ("ErrDecrypt", "wrap changed", flip(good, head - 1), tenant, SERVICE), ("ErrBinding", "commitment changed", flip(good, 1), tenant, SERVICE),
        ("ErrBinding", "commitment of a data key", native.body(
            native.SECRET, native.commitment(K1, Binding("", "", [], tenant).canonical(native.KEY)), [(SERVICE.tag, SERVICE.wrap(K1, tenant))], good[head:]), tenant, SERVICE),
        ("ErrBinding", "commitment to a table", native.key_body(K1, Binding("t", "", [], tenant), [SERVICE], native.SECRET, good[head:]), tenant, SERVICE),
        ("ErrDecrypt", "no associated data", sealed(b""), tenant, SERVICE),
        ("ErrDecrypt", "associated data without its length", sealed(b"kmsencrypted/1 secret"), tenant, SERVICE),
        ("ErrDecrypt", "sealed under another key", sealed(native.item("kmsencrypted/1 secret"), native.keys(K2).sealing), tenant, SERVICE),
    ]:
        cases.append(case(name, text(1, data), context, error=error, provider=provider))
    b = b64(good)
    cases += [case("no prefix", b, tenant, error="ErrMalformed"), case("line break", "v1:" + b + "\n", tenant, error="ErrMalformed"),
              case("relabelled with a version that seals records", "v2:" + b, tenant, error="ErrBinding", version=2, record_seal=True),
              case("relabelled with a version that does not seal records", text(2, flagged), tenant, error="ErrBinding", version=2),
              case("two symbols of one name", text(1, native.secret_body(K1, nonce("twice"), b"x", twice, SERVICE)), twice, error="ErrContext"),
              case("version that is not listed", "v2:" + b, tenant, error="ErrVersionNotActive"),
              case("retired version", "v1:" + b, tenant, error="ErrVersionRetired", version=2, min_version=2)]
    return cases


# Section 7.


def record_seals():
    email, born, notes = "email_ciphertext", "born_ciphertext", "notes_ciphertext"
    types = {email: "string", born: "date", notes: "bytes"}  # declared in this order, which is not that of the seal

    def value(name, plaintext, label=""):
        ad = native.associated_data(native.PLAIN, TABLE, name, types[name])
        return native.column(K1, nonce(name + label), native.PLAIN, ad, plaintext)

    now = {email: value(email, b"new@example.org"), born: value(born, b"1815-12-10"), notes: value(notes, b"\x00\xff")}
    old_email = value(email, b"old@example.org", "old")

    def key(columns, seal=None, version=1):
        seal = native.record_seal(K1, TABLE, ROW.column, columns) if seal is None else seal
        return text(version, native.key_body(K1, ROW, [SERVICE], rest=seal, flags=native.RECORD_SEAL))

    def case(name, sealed, read=None, error=None, key_column=None, **more):
        read = sealed if read is None else read
        stored = {n: {"null": True} if v is None else {"b64": b64(v)} if n == notes else {"text": v if isinstance(v, str) else b64(v)}
                  for n, v in read.items()}
        c = {"name": name, "key_column": key_column or key(sealed), "columns": stored}
        return {**c, "error": error, **more} if error else {**c, "seal": native.record_seal(K1, TABLE, ROW.column, sealed).hex(), **more}

    full = {"email": "new@example.org", "born": "1815-12-10", "notes": b64(b"\x00\xff")}
    seal = native.record_seal(K1, TABLE, ROW.column, now)
    partial = {email: old_email, notes: now[notes]}
    no_notes = {**now, notes: None}
    empty = {email: None, born: None, notes: None}

    def listing_null(columns):
        """A seal that lists the columns that are NULL too, with no tag."""
        return native.record_seal(K1, TABLE, ROW.column, {n: "" if v is None else v for n, v in columns.items()})
    return [
        case("every column", now, values=full),
        case("one NULL", no_notes, values={**full, "notes": None}),
        case("one column", {**empty, email: now[email]}, values={"email": "new@example.org", "born": None, "notes": None}),
        case("no column", empty, values={"email": None, "born": None, "notes": None}),
        case("columns that were declared later", {notes: now[notes]}, {**empty, notes: now[notes]},
             values={"email": None, "born": None, "notes": full["notes"]}),
        case("a partial read cannot be checked", now, partial, values={"email": "old@example.org", "notes": full["notes"]}),
        case("set back", now, {**now, email: old_email}, "ErrRecordSeal"),
        case("emptied", now, {**now, email: None}, "ErrRecordSeal"),
        case("all emptied", now, empty, "ErrRecordSeal"),
        case("filled", no_notes, now, "ErrRecordSeal"),
        case("filled where there was no column", empty, {**empty, email: now[email]}, "ErrRecordSeal"),
        case("exchanged", now, {**now, email: b64(now[born]), born: b64(now[email])}, "ErrRecordSeal"),
        case("no ciphertext where there was one", now, {**now, email: "plaintext"}, "ErrRecordSeal"),
        case("no ciphertext where there was none", {**now, email: None}, {**now, email: "plaintext"}, "ErrRecordSeal"),
        case("no ciphertext, and sealed like this", {**now, email: "plaintext"}, error="ErrNotCiphertext"),
        case("a value changed before its tag", now, {**now, email: flip(now[email], 21)}, "ErrDecrypt"),
        case("seal changed", now, error="ErrRecordSeal", key_column=key(now, flip(seal, 0))),
        case("seal of zeros", now, error="ErrRecordSeal", key_column=key(now, bytes(32))),
        case("seal cut off", now, error="ErrMalformed", key_column=key(now, b"")),
        case("seal cut by a byte", now, error="ErrMalformed", key_column=key(now, seal[:-1])),
        case("a byte behind the seal", now, error="ErrMalformed", key_column=key(now, seal + b"\x00")),
        case("seal in the order of declaration", now, error="ErrRecordSeal",
             key_column=key(now, native.record_seal(K1, TABLE, ROW.column, now, order=list(types)))),
        case("seal of another table", now, error="ErrRecordSeal", key_column=key(now, native.record_seal(K1, "accounts", ROW.column, now))),
        case("seal that lists a column that is NULL", no_notes, error="ErrRecordSeal", key_column=key(no_notes, listing_null(no_notes))),
        case("seal that lists columns that are all NULL", empty, error="ErrRecordSeal", key_column=key(empty, listing_null(empty))),
        case("seal without a column that has a value", now, error="ErrRecordSeal",
             key_column=key(now, native.record_seal(K1, TABLE, ROW.column, no_notes))),
        case("seal of no column", now, error="ErrRecordSeal", key_column=key(now, native.record_seal(K1, TABLE, ROW.column, empty))),
    ]


# spec/local.md.


def local_keys():
    first, second = fixed("local 1", 32), fixed("local 2", 32)
    file = "# keys\n2024-02-29 %s\n\n  old.key_1-A   %s  \r\n" % (first.hex(), second.hex().upper())
    context = {"pairs": [["model_name", "customers"], ["model_id", 7]]}

    def case(name, ciphertext, context=context, plaintext=None, error=None, keys=file):
        c = {"name": name, "keys": keys, "context": context, "ciphertext_b64": b64(ciphertext)}
        return {**c, "error": error} if error else {**c, "plaintext_b64": b64(plaintext)}

    good = native.local("2024-02-29", first, nonce("local"), K1, context)
    head = 1 + len("2024-02-29")
    cases = [case("first key", good, plaintext=K1), case("second key", native.local("old.key_1-A", second, nonce("second"), K1, context), plaintext=K1),
             case("empty plaintext", native.local("2024-02-29", first, nonce("empty"), b"", context), plaintext=b"")]
    for name, c in {"absent": None, "empty list": {"pairs": []}, "empty text": {"text": ""}, "text": {"text": "acme"},
                    "escapes": {"pairs": [["a", "<&>\u2028\"\\\n"]]}, "order": {"pairs": [["b", 1], ["a b", 2], ["a!", 3], ["a", 4], ["s", 5, "string"]]},
                    "one name twice": {"pairs": [["a", "symbol"], ["b", 1], ["a", "string", "string"]]}}.items():
        cases.append(case("context: " + name, native.local("2024-02-29", first, nonce(name), K1, c), c, K1))
    empty = native.local("2024-02-29", first, nonce("empty text"), K1, {"text": ""})
    for name, data, c in [
        ("no byte", b"", context), ("id past the end", b"\x0a2024", context), ("no id", b"\x00" + good[head:], context),
        ("another id", b"\x0a2024-02-28" + good[head:], context), ("the other key's id", b"\x0bold.key_1-A" + good[head:], context),
        ("id alone", good[:head], context), ("27 bytes behind the id", good[:head + 27], context), ("nonce changed", flip(good, head), context),
        ("tag changed", flip(good, -1), context), ("a byte behind", good + b"\x00", context), ("another context", good, native.default_context("8")),
        ("absent for given context", good, None), ("absent for empty context", empty, None),
        ("sealed without the id", b"\x0a2024-02-29" + native.aesgcm.seal(
            first, nonce("no id"), K1, native.item("kmsencrypted/1 local") + native.item(native.context_bytes(context))), context),
    ]:
        cases.append(case(name, data, c, error="ErrDecrypt"))
    for name, keys in {"no key": "# nothing\n", "no digits": "a\n", "62 digits": "a " + "00" * 31, "66 digits": "a " + "00" * 33, "no hex": "a " + "xy" * 32,
                       "no id": " " + "00" * 32, "id with a slash": "a/b " + "00" * 32, "id of 65 characters": "a" * 65 + " " + "00" * 32,
                       "one id twice": "a %s\na %s\n" % ("00" * 32, "01" * 32), "a word behind": "a " + "00" * 32 + " x"}.items():
        cases.append(case("key file: " + name, good, error="ErrConfig", keys=keys))
    return cases


write("canonical.json", "spec/native.md 2.1", canonical_lists())
write("keys.json", "spec/native.md 2.2, 2.3", data_keys())
write("key_column.json", "spec/native.md 3, 4; spec/context.md", good_keys() + refused_keys())
write("column.json", "spec/native.md 5", good_fields() + refused_fields())
write("secret.json", "spec/native.md 6", secrets())
write("record_seal.json", "spec/native.md 7", record_seals())
write("local.json", "spec/local.md, spec/context.md", local_keys())


# spec/branch.md.


def branch_wraps():
    store, salt = fixed("branch store", 16), fixed("salt", 16)
    created = [("2024-02-29T12:34:56.789Z", 1709210096789), ("2026-11-30T08:00:00.000Z", 1796025600000)]
    keys = {(p, b, v): fixed("branch %s/%s/%d" % (p, b, v), 32)
            for p, b, v in [("", "acme", 1), ("", "acme", 2), ("", "ACME", 1), ("acme", "42", 1), ("", "42", 1), ("acme", "old", 1), ("", "gone", 1), ("", "closing", 1)]}

    def row(p, b, v):
        c = created[v - 1]
        binding = native.branch_row(store, p, b, v, c)
        if p:
            version = 1 if b == "old" else 2  # of the parent's key
            wrap = native.branch_wrap(store, "", p, version, keys["", p, version], fixed("row salt", 16), nonce("row " + b), keys[p, b, v], binding.context, native.CHILD)
            body = native.body(native.KEY, native.commitment(keys[p, b, v], binding.canonical(native.KEY)), [("branch " + store.hex()[:8], wrap)])
        else:
            body = native.key_body(keys[p, b, v], binding, [SERVICE])
        r = {"parent": p, "branch": b, "version": v, "created": c[1], "key_column": text(1, body), "binding": binding.canonical(native.KEY).hex()}
        if b in ("gone", "closing"):
            r["erased" if b == "gone" else "closing"] = c[1] + 1
        if b == "gone":
            r["key_column"] = ""
        return r

    rows = [row(*k) for k in keys]

    def wrap(p="", b="acme", v=1, context={"pairs": [["tenant", "acme"], ["id", 7]]}, plaintext=K1, label=native.VALUE, store=store, name="wrap"):
        return native.branch_wrap(store, p, b, v, keys[p, b, v], salt, nonce(name), plaintext, context, label)

    def context(tenant, **more):
        return {"pairs": [["tenant", tenant]] + [[k, v] for k, v in more.items()]}

    def case(name, parent, branch, context, ciphertext, plaintext=None, error=None):
        c = {"name": name, "parent": parent, "branch": branch, "context": context, "ciphertext": ciphertext.hex()}
        return {**c, "error": error} if error else {**c, "plaintext": plaintext.hex()}

    acme = context("acme", id=7)
    good = wrap()
    cases = [{"name": "store", "store": store.hex(), "rows": rows},
             case("version 1", "", "acme", acme, good, K1),
             case("version 2", "", "acme", acme, wrap(v=2), K1),
             case("empty value", "", "acme", acme, wrap(plaintext=b""), b""),
             case("long value", "", "acme", acme, wrap(plaintext=fixed("long", 1000)), fixed("long", 1000)),
             case("absent context", "", "acme", None, wrap(context=None), K1),
             case("empty context", "", "acme", {"pairs": []}, wrap(context={"pairs": []}), K1),
             case("empty text", "", "acme", {"text": ""}, wrap(context={"text": ""}), K1),
             case("under a parent", "acme", "42", acme, wrap("acme", "42"), K1),
             case("under an older version of the parent", "acme", "old", acme, wrap("acme", "old"), K1),
             case("same name at the top", "", "42", acme, wrap("", "42"), K1)]
    for name, parent, branch, c, data in [
        ("no byte", "", "acme", acme, b""), ("48 bytes", "", "acme", acme, good[:48]), ("tag cut", "", "acme", acme, good[:-1]),
        ("a byte behind", "", "acme", acme, good + b"\x00"), ("format 00", "", "acme", acme, b"\x00" + good[1:]),
        ("format 02", "", "acme", acme, b"\x02" + good[1:]), ("version 0", "", "acme", acme, b"\x01" + native.u32(0) + good[5:]),
        ("the other version", "", "acme", acme, b"\x01" + native.u32(2) + good[5:]), ("version 4", "", "acme", acme, b"\x01" + native.u32(4) + good[5:]),
        ("salt changed", "", "acme", acme, flip(good, 5)), ("nonce changed", "", "acme", acme, flip(good, 21)), ("tag changed", "", "acme", acme, flip(good, -1)),
        ("another context", "", "acme", context("acme", id=8), good), ("absent for given context", "", "acme", None, good),
        ("absent for empty context", "", "acme", None, wrap(context={"pairs": []})), ("empty for absent context", "", "acme", {"pairs": []}, wrap(context=None)),
        ("another case of the name", "", "ACME", acme, good), ("the branch of the same name under a parent", "acme", "42", acme, wrap("", "42")),
        ("another store", "", "acme", acme, wrap(store=fixed("other store", 16))), ("a branch key for a value", "", "acme", acme, wrap(label=native.CHILD)),
    ]:
        cases.append(case(name, parent, branch, c, data, error="ErrDecrypt"))
    for name, branch, version, error in [("next version", "acme", 3, "ErrMissing"), ("branch without rows", "none", 1, "ErrMissing"),
                                         ("erased", "gone", 1, "ErrErased"), ("closing", "closing", 1, "ErrErased")]:
        cases.append(case(name, "", branch, acme, b"\x01" + native.u32(version) + good[5:], error=error))
    return cases


write("branch.json", "spec/branch.md", branch_wraps())
