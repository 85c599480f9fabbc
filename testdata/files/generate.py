"""Writes the vectors of file objects and wrapped file keys: python3 generate.py

It follows spec/files.md and shares no code with the library. AES-GCM and
secrets are those of ../native. It needs Python 3.9 or later and its standard library alone, takes some
seconds, and always writes the same text. README.md describes the files.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "native"))
import aesgcm  # noqa: E402
import native  # noqa: E402

CHUNK, TAG = 16384, 16


def fixed(label, size):
    """Bytes that look random and are the same every time."""
    return hashlib.shake_256(label.encode()).digest(size)


def expand(prk, info, size):
    out, block, i = b"", b"", 1
    while len(out) < size:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha512).digest()
        out, i = out + block, i + 1
    return out[:size]


def item(data):
    return len(data).to_bytes(4, "big") + data


# Section 2 and 3: objects.


def header(file_id):
    return b"\x89KEF\r\n\x1a\n" + bytes([1, 1, 0, 0]) + (32).to_bytes(4, "big") + file_id


def seal(key, file_id, salt, plaintext):
    head = header(file_id)
    okm = expand(key, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + head, 76)
    out = head + salt + okm[44:]
    base = int.from_bytes(okm[32:44], "big")
    for k in range(len(plaintext) // CHUNK + 1):
        nonce = (base ^ k).to_bytes(12, "big")
        out += aesgcm.seal(okm[:32], nonce, plaintext[k * CHUNK:(k + 1) * CHUNK], b"")[12:]  # without the nonce
    return out


def objects():
    cases = []
    for size in [0, 1, 31, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]:
        name = "%d bytes" % size
        key, file_id, salt = fixed("key " + name, 32), fixed("id " + name, 16), fixed("salt " + name, 24)
        obj = seal(key, file_id, salt, fixed("plaintext " + name, size))
        cases.append({"name": name, "key": key.hex(), "file_id": file_id.hex(), "salt": salt.hex(),
                      "plaintext_label": "plaintext " + name, "plaintext_size": size,
                      "plaintext_sha256": hashlib.sha256(fixed("plaintext " + name, size)).hexdigest(),
                      "size": len(obj), "sha256": hashlib.sha256(obj).hexdigest()})
        if size < 100:
            cases[-1]["object"] = obj.hex()
    return cases


def refused():
    key, file_id, salt = fixed("key", 32), fixed("id", 16), fixed("salt", 24)
    good = seal(key, file_id, salt, b"hello")
    other = fixed("another key", 32)
    cases = []

    def add(name, obj, error, with_key=key):
        cases.append({"name": name, "key": with_key.hex(), "object": obj.hex(), "error": error})

    def patch(offset, data):
        return good[:offset] + data + good[offset + len(data):]

    add("no byte", b"", "ErrTruncated")
    add("a cut magic", good[:5], "ErrTruncated")
    add("a cut header", good[:31], "ErrTruncated")
    add("header alone", good[:32], "ErrTruncated")
    add("a cut commitment", good[:87], "ErrTruncated")
    add("no chunk", good[:88], "ErrTruncated")
    add("a cut tag", good[:103], "ErrTruncated")
    add("one byte less", good[:-1], "ErrDecrypt")
    add("one byte more", good + b"\0", "ErrDecrypt")
    add("text", b"%PDF-1.7 and so on, longer than a header of 32 bytes", "ErrNotCiphertext")
    add("magic after text mode", patch(4, b"\n"), "ErrNotCiphertext")
    add("magic without its high bit", patch(0, b"\x09"), "ErrNotCiphertext")
    add("version 0", patch(8, b"\0"), "ErrMalformed")
    add("version 2", patch(8, b"\2"), "ErrMalformed")
    add("suite 0", patch(9, b"\0"), "ErrMalformed")
    add("suite 2", patch(9, b"\2"), "ErrMalformed")
    add("embedded keys", patch(10, b"\1"), "ErrMalformed")
    add("a flag", patch(11, b"\1"), "ErrMalformed")
    add("header length 4096", patch(12, b"\0\0\x10\0"), "ErrMalformed")
    add("another file id", patch(16, b"\0"), "ErrDecrypt")
    add("another salt", patch(32, b"\0"), "ErrDecrypt")
    add("another commitment", patch(56, b"\0"), "ErrDecrypt")
    add("another ciphertext", patch(88, bytes([good[88] ^ 1])), "ErrDecrypt")
    add("another tag", patch(len(good) - 1, bytes([good[-1] ^ 1])), "ErrDecrypt")
    add("another key", good, "ErrDecrypt", other)
    return cases


# Section 4: wrapped file keys.


def canonical(place, prefix="fk2:"):
    out = item(b"file" if prefix == "fk1:" else b"file/2") + item(place["format"].encode()) + item(place["table"].encode())
    out += len(place["id"]).to_bytes(4, "big") + b"".join(item(i.encode()) for i in place["id"])
    out += item(place["attachment"].encode()) + item(bytes.fromhex(place["file_id"]))
    return out if prefix == "fk1:" else out + item(bytes.fromhex(place.get("parent", "")))


def wrap(data_key, nonce, file_key, place, prefix="fk2:"):
    key = expand(data_key, b"kmsencrypted/1 file key", 32)
    sealed = aesgcm.seal(key, nonce, file_key, canonical(place, prefix))
    return prefix + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def wrapped(prefix):
    """Cases that are alike for both prefixes, and what only fk2 is bound to."""
    data_key, file_key, nonce = fixed("data key", 32), fixed("file key", 32), fixed("nonce", 12)
    place = {"format": "native", "table": "users", "id": ["7"], "attachment": "license", "file_id": fixed("id", 16).hex()}
    good = wrap(data_key, nonce, file_key, place, prefix)
    cases = []

    def add(name, text, where, error=None):
        case = {"name": name, "data_key": data_key.hex(), "place": where, "associated_data": canonical(where, prefix).hex(), "wrapped": text}
        case.update({"error": error} if error else {"key": file_key.hex()})
        cases.append(case)

    add("one column as id", good, place)
    compound = dict(place, id=["eu", "7"], attachment="größe")
    add("two columns as id", wrap(data_key, nonce, file_key, compound, prefix), compound)
    lockbox = dict(place, format="lockbox")
    add("a Lockbox object", wrap(data_key, nonce, file_key, lockbox, prefix), lockbox)
    add("another format", good, lockbox, "ErrDecrypt")
    add("another table", good, dict(place, table="admins"), "ErrDecrypt")
    add("another record", good, dict(place, id=["8"]), "ErrDecrypt")
    add("an id in two parts", good, dict(place, id=["7", ""]), "ErrDecrypt")
    add("another attachment", good, dict(place, attachment="photo"), "ErrDecrypt")
    add("another file", good, dict(place, file_id=fixed("other", 16).hex()), "ErrDecrypt")
    add("shifted borders", good, dict(place, table="user", id=["s7"]), "ErrDecrypt")
    last = "A" if good[-1] != "A" else "B"
    add("changed text", good[:-1] + last, place, "ErrDecrypt")
    add("cut text", good[:-1], place, "ErrMalformed")
    add("longer text", good + "AAAA", place, "ErrMalformed")
    add("padded text", good + "=", place, "ErrMalformed")
    add("a line break", good[:40] + "\n" + good[40:], place, "ErrMalformed")
    add("the other alphabet", good[:40] + "+" + good[41:], place, "ErrMalformed")
    add("prefix alone", prefix, place, "ErrMalformed")
    add("a later version", "fk3" + good[3:], place, "ErrNotCiphertext")
    add("a Box ciphertext", "v2:AQID", place, "ErrNotCiphertext")
    add("nothing", "", place, "ErrNotCiphertext")
    if prefix == "fk1:":
        # Written before parents were bound: the same text whatever the parent.
        add("a derived file", good, dict(place, parent=fixed("parent", 16).hex()))
        return cases
    derived = dict(place, attachment="license/small", parent=fixed("parent", 16).hex())
    small = wrap(data_key, nonce, file_key, derived)
    add("a derived file", small, derived)
    add("another parent", small, dict(derived, parent=fixed("other", 16).hex()), "ErrDecrypt")
    add("no parent", small, dict(derived, parent=""), "ErrDecrypt")
    add("a parent too many", good, dict(place, parent=derived["parent"]), "ErrDecrypt")
    return cases


# Section 4.1: file keys that the key service wraps, as secrets of ../native.


def direct():
    data_key, file_key = fixed("data key", 32), fixed("file key", 32)
    service = native.Provider("one", "vector one")
    file_id, parent = fixed("id", 16).hex(), fixed("parent", 16).hex()
    cases = []

    def add(name, base, table, record, attachment, parent="", record_key=""):
        pairs = base + [["attachment", attachment], ["file_id", file_id], ["record_table", table], ["record_id", record]]
        prefix = "fb2:"
        if record_key:
            pairs.append(["record_key", record_key])
            prefix = "fb3:" + record_key + ":"
        if parent:
            pairs.append(["parent_file_id", parent])
        secret = native.secret_body(data_key, fixed("nonce " + name, 12), file_key, {"pairs": pairs}, service)
        cases.append({"name": name, "context": base, "table": table, "record_id": record, "attachment": attachment, "file_id": file_id,
                      "parent": parent, "record_key": record_key, "key_context": native.context_bytes({"pairs": pairs}).decode(),
                      "wrapped": prefix + native.text(1, secret), "key": file_key.hex()})

    record = [["model_name", "User"], ["model_id", "7"]]
    add("a tenant's record", [["tenant", "acme"]], "users", "7", "license")
    add("the default context", record, "users", "7", "license")
    add("a derived file", record, "users", "7", "license/small", parent)
    add("two columns as id", [["tenant", "acme"]], "users", '["eu","7"]', "größe")
    add("no pairs", [], "users", "7", "license")
    of = fixed("commitment of the record", 32).hex()
    add("bound to a data key", record, "users", "7", "license", record_key=of)
    add("a derived file, bound to a data key", [["tenant", "acme"]], "users", "7", "license/small", parent, record_key=of)
    return cases


# Section 4.2: recovery wraps.


def u64(n):
    return n.to_bytes(8, "big")


def card(file_id, file_key, row, version=1):
    out = bytes([version]) + file_id + file_key + item(row["table"].encode()) + len(row["ids"]).to_bytes(4, "big")
    out += b"".join(item(i.encode()) for i in row["ids"])
    for name in ["name", "variant", "id", "parent_id", "bucket", "object", "file_name", "content_type", "format"]:
        out += item(row[name].encode())
    return out + b"".join(u64(row[n]) for n in ["size", "object_size", "created", "parent_created", "written"])


def recovery():
    data_key, file_key, file_id = fixed("data key", 32), fixed("file key", 32), fixed("id", 16)
    service = native.Provider("one", "vector one")
    base = {"table": "users", "ids": ["7"], "name": "license", "variant": "", "id": "mfrggzdfmztwq2lknnwg23tpoa", "parent_id": "",
            "bucket": "main", "object": "a" * 28, "file_name": "größe.pdf", "content_type": "application/pdf", "format": "native",
            "size": 5, "object_size": 109, "created": 1700000000000, "parent_created": 0, "written": 1700000000001}
    derived = dict(base, variant="small", parent_id=base["id"], id="nbswy3dpeb3w64tmmqqq", parent_created=1600000000000)
    cases = []

    def add(name, plaintext, row=None, error=None, text_id=file_id, store="shop", purpose="file recovery", record_key=""):
        pairs = [["store", store], ["purpose", purpose], ["file_id", text_id.hex()]]
        head = "fr1:" + text_id.hex() + ":"
        if record_key:
            pairs.append(["record_key", record_key])
            head = "fr2:" + text_id.hex() + ":" + record_key + ":"
        secret = native.secret_body(data_key, fixed("nonce " + name, 12), plaintext, {"pairs": pairs}, service)
        case = {"name": name, "text": head + native.text(1, secret)}
        case.update({"error": error} if error else
                    {"context": native.context_bytes({"pairs": pairs}).decode(), "plaintext": plaintext.hex(), "file_id": file_id.hex(), "key": file_key.hex(), "row": row})
        cases.append(case)

    def bad(case, **changed):
        add(case, card(file_id, file_key, dict(base, **changed)), error="ErrMalformed")

    good = card(file_id, file_key, base)
    add("a file", good, base)
    add("a derived file", card(file_id, file_key, derived), derived)
    two = dict(base, ids=["eu", "7"], file_name="")
    add("two columns as id", card(file_id, file_key, two), two)
    add("another version", card(file_id, file_key, base, 2), error="ErrMalformed")
    add("nothing", b"", error="ErrMalformed")
    add("a key alone", good[:49], error="ErrMalformed")
    add("one byte less", good[:-1], error="ErrMalformed")
    add("one byte more", good + b"\0", error="ErrMalformed")
    add("8193 bytes", card(file_id, file_key, dict(base, file_name="x" * (8193 - len(good) + len(base["file_name"].encode())))), error="ErrMalformed")
    add("an item that is too long", good[:49] + b"\xff\xff\xff\xff" + good[53:], error="ErrMalformed")
    add("too many ids", good[:58] + b"\xff\xff\xff\xff" + good[62:], error="ErrMalformed")
    bad("no ids", ids=[])
    for name in ["table", "name", "id", "bucket", "object"]:
        bad("no " + name, **{name: ""})
    bad("a slash in the name", name="a/b")
    bad("a slash in the variant", variant="a/b", parent_id="x")
    bad("a variant without a parent", variant="small")
    bad("a parent without a variant", parent_id="x")
    bad("a time of no parent", parent_created=1)
    bad("another format", format="lockbox")
    bad("a negative size", size=2 ** 63)
    bad("a negative object size", object_size=2 ** 64 - 1)
    add("a zero file id", card(bytes(16), file_key, base), error="ErrMalformed", text_id=bytes(16))
    add("another file id", card(fixed("other", 16), file_key, base), error="ErrBinding")
    add("another store", good, error="ErrDecrypt", store="other")
    add("another purpose", good, error="ErrDecrypt", purpose="file")
    text = cases[0]["text"]
    for name, changed, error in [
            ("another file id in front", "fr1:" + fixed("other", 16).hex() + text[36:], "ErrDecrypt"),
            ("upper case", "fr1:" + file_id.hex().upper() + text[36:], "ErrMalformed"),
            ("a short file id", "fr1:" + text[6:], "ErrMalformed"),
            ("no secret", text[:37], "ErrMalformed"),
            ("no colon", text[:36], "ErrMalformed"),
            ("a later prefix", "fr3:" + text[4:], "ErrNotCiphertext"),
            ("a prefix without its record key", "fr2:" + text[4:], "ErrMalformed"),
            ("a wrapped key", "fk2:" + "A" * 80, "ErrNotCiphertext"),
            ("no text", "", "ErrNotCiphertext")]:
        cases.append({"name": name, "text": changed, "error": error})
    of = fixed("commitment of the record", 32).hex()
    add("of a record with a data key", good, base, record_key=of)
    keyed = cases[-1]["text"]
    for name, changed, error in [
            ("without the record key", "fr1:" + keyed[4:36] + keyed[101:], "ErrDecrypt"),
            ("another record key", keyed[:37] + fixed("other", 32).hex() + keyed[101:], "ErrDecrypt"),
            ("a record key in upper case", keyed[:37] + of.upper() + keyed[101:], "ErrMalformed"),
            ("a short record key", keyed[:37] + keyed[39:], "ErrMalformed"),
            ("no record key", keyed[:37] + keyed[101:], "ErrMalformed")]:
        cases.append({"name": name, "text": changed, "error": error})
    return cases


# Tokens of uploads: section 5.6.


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def tokens():
    secret = fixed("token secret", 32)
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    key = hmac.new(prk, b"kmsencrypted/1 uploads\x01", hashlib.sha256).digest()
    of = {"user": "ada", "tenant": "acme", "table": "customers", "ids": ["7"], "attachment": "license", "bucket": "main", "object": "0123456789abcdefghijklmnopqr",
          "file_name": "Führerschein.pdf", "content_type": "application/pdf"}
    cases = []

    def add(name, error=None, version=1, expires=1_900_000_000, size=20_000_000, part_size=8_388_608, end=b"", purpose=b"", cut=None, **other):
        t = dict(of, **other)
        texts = [item(t[n].encode()) for n in ["user", "tenant", "table"]] + [len(t["ids"]).to_bytes(4, "big")]
        texts += [item(i.encode()) for i in t["ids"]] + [item(t[n].encode()) for n in ["attachment", "bucket", "object", "file_name", "content_type"]]
        said = bytes([version]) + b"".join((n % 2**64).to_bytes(8, "big") for n in [expires, size, part_size]) + b"".join(texts) + end
        said = said[:cut]
        mac = hmac.new(key, item(purpose) + item(said), hashlib.sha256).digest()
        case = {"name": name, "secret": secret.hex(), "token": base64url(said) + "." + base64url(mac)}
        case.update({"error": error} if error else dict(t, expires=expires, size=size, part_size=part_size))
        cases.append(case)

    add("a token")
    add("two ids, no tenant", ids=["eu", "7"], tenant="")
    add("an empty file without a name", size=0, file_name="", content_type="")
    add("another version", "ErrToken", version=2)
    add("a byte more", "ErrToken", end=b"\0")
    add("a byte less", "ErrToken", cut=-1)
    add("no texts", "ErrToken", cut=25)
    add("no ids", "ErrToken", ids=[])
    add("a negative size", "ErrToken", size=-1)
    add("no part size", "ErrToken", part_size=0)
    add("another purpose", "ErrToken", purpose=b"links")
    good = cases[0]["token"]
    for name, changed in [("another secret", good), ("a changed token", "B" + good[1:]), ("no MAC", good.split(".")[0]), ("a space", good + " ")]:
        cases.append({"name": name, "secret": (fixed("other", 32) if name == "another secret" else secret).hex(), "token": changed, "error": "ErrToken"})
    return cases


# Sidecars of encrypted buckets: buckets.md section 2.


def sidecars():
    data_key, file_key, file_id = fixed("data key", 32), fixed("file key", 32), fixed("id", 16)
    service = native.Provider("one", "vector one")
    cases = []

    def add(name, plaintext, error=None, bucket="contracts", key="7/contract.pdf", read_key=None, prefix="kek2:", attributes=None):
        pairs = [["bucket", bucket], ["object", key]] if prefix == "kek2:" else [["object", key]]
        secret = native.secret_body(data_key, fixed("nonce " + name, 12), plaintext, {"pairs": pairs}, service)
        case = {"name": name, "bucket": "contracts", "object": read_key or key, "file_id": file_id.hex(), "text": prefix + native.text(1, secret)}
        case.update({"error": error} if error else {"context": native.context_bytes({"pairs": pairs}).decode(), "plaintext": plaintext.hex(), "key": file_key.hex(), "attributes": attributes})
        cases.append(case)

    head = bytes([1]) + file_id + file_key
    add("no attributes", head + b"{}", attributes={})
    every = {"type": "application/pdf", "cache": "no-store", "disposition": "inline", "encoding": "gzip", "language": "de",
             "metadata": {"owner": "Größe", "x": ""}, "md5": base64.b64encode(fixed("md5", 16)).decode()}
    add("every attribute", head + json.dumps(every).encode(), attributes=every)
    add("an unknown attribute", head + b'{"type":"text/plain","later":[1]}', attributes={"type": "text/plain"})
    add("another key", head + b"{}", "ErrDecrypt", read_key="8/contract.pdf")
    add("another bucket", head + b"{}", "ErrDecrypt", bucket="invoices")
    add("of an older release", head + b"{}", "ErrBinding", prefix="")
    add("another file id", bytes([1]) + fixed("other", 16) + file_key + b"{}", "ErrBinding")
    add("another version", bytes([2]) + head[1:] + b"{}", "ErrMalformed")
    add("no key", head[:48], "ErrMalformed")
    add("no JSON", head, "ErrMalformed")
    add("a list", head + b"[]", "ErrMalformed")
    add("a later prefix", head + b"{}", "ErrMalformed", prefix="kek3:")
    text = cases[0]["text"]
    cases.append(dict(cases[3], name="cut", object=cases[0]["object"], text=text[:-8], error="ErrDecrypt"))
    cases.append(dict(cases[3], name="nothing after the prefix", object=cases[0]["object"], text="kek2:", error="ErrMalformed"))
    return cases


def write(name, section, cases):
    names = [c["name"] for c in cases]
    assert len(set(names)) == len(names)
    lines = ",\n".join("  " + json.dumps(c) for c in cases)
    (HERE / name).write_text('{"source": "generate.py", "section": %s,\n "cases": [\n%s\n]}\n' % (json.dumps(section), lines))
    print("%-14s %3d cases" % (name, len(cases)))


if __name__ == "__main__":
    write("objects.json", "files 2, 3", objects())
    write("refused.json", "files 2, 3", refused())
    write("wrapped.json", "files 4", wrapped("fk1:"))
    write("wrapped2.json", "files 4", wrapped("fk2:"))
    write("direct.json", "files 4.1", direct())
    write("recovery.json", "files 4.2", recovery())
    write("tokens.json", "files 5.6", tokens())
    write("sidecars.json", "buckets 2", sidecars())
