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

    def add(name, base, table, record, attachment, parent=""):
        pairs = base + [["attachment", attachment], ["file_id", file_id], ["record_table", table], ["record_id", record]]
        if parent:
            pairs.append(["parent_file_id", parent])
        secret = native.secret_body(data_key, fixed("nonce " + name, 12), file_key, {"pairs": pairs}, service)
        cases.append({"name": name, "context": base, "table": table, "record_id": record, "attachment": attachment, "file_id": file_id,
                      "parent": parent, "key_context": native.context_bytes({"pairs": pairs}).decode(),
                      "wrapped": "fb2:" + native.text(1, secret), "key": file_key.hex()})

    record = [["model_name", "User"], ["model_id", "7"]]
    add("a tenant's record", [["tenant", "acme"]], "users", "7", "license")
    add("the default context", record, "users", "7", "license")
    add("a derived file", record, "users", "7", "license/small", parent)
    add("two columns as id", [["tenant", "acme"]], "users", '["eu","7"]', "größe")
    add("no pairs", [], "users", "7", "license")
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
