"""AES-256-GCM with a nonce of 12 bytes, plainly from FIPS 197 and NIST SP 800-38D.

Slow and not constant in time: it makes test vectors and nothing else.
"""


def _sbox():
    exp, log, x = [0] * 255, [0] * 256, 1
    for i in range(255):
        exp[i], log[x] = x, i
        x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)
        x &= 0xFF
    box = []
    for b in range(256):
        inverse = exp[-log[b] % 255] if b else 0
        s = 0
        for shift in range(5):
            s ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
        box.append(s ^ 0x63)
    return box


SBOX = _sbox()


def _double(b):
    return (b << 1 ^ (0x1B if b & 0x80 else 0)) & 0xFF


def _round_keys(key):
    words = [list(key[i:i + 4]) for i in range(0, 32, 4)]
    rcon = 1
    for i in range(8, 60):
        w = list(words[-1])
        if i % 8 == 0:
            w = [SBOX[b] for b in w[1:] + w[:1]]
            w[0] ^= rcon
            rcon = _double(rcon)
        elif i % 8 == 4:
            w = [SBOX[b] for b in w]
        words.append([a ^ b for a, b in zip(words[-8], w)])
    return [sum(words[i:i + 4], []) for i in range(0, 60, 4)]


def _encrypt_block(keys, block):
    s = [a ^ b for a, b in zip(block, keys[0])]
    for r in range(1, 15):
        s = [SBOX[s[(i + 4 * (i % 4)) % 16]] for i in range(16)]  # SubBytes, ShiftRows
        if r < 14:
            mixed = []
            for c in range(0, 16, 4):
                col = s[c:c + 4]
                whole = col[0] ^ col[1] ^ col[2] ^ col[3]
                mixed += [col[i] ^ whole ^ _double(col[i] ^ col[(i + 1) % 4]) for i in range(4)]
            s = mixed
        s = [a ^ b for a, b in zip(s, keys[r])]
    return bytes(s)


def _multiply(x, y):
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def _ghash(h, data):
    y = 0
    for i in range(0, len(data), 16):
        y = _multiply(y ^ int.from_bytes(data[i:i + 16], "big"), h)
    return y


def _whole_blocks(data):
    return data + bytes(-len(data) % 16)


def seal(key, nonce, plaintext, associated_data):
    """Returns nonce || ciphertext || tag."""
    assert len(key) == 32 and len(nonce) == 12
    keys = _round_keys(key)

    def stream(counter):
        return _encrypt_block(keys, nonce + counter.to_bytes(4, "big"))

    ciphertext = b""
    for i in range(0, len(plaintext), 16):
        ciphertext += bytes(a ^ b for a, b in zip(plaintext[i:i + 16], stream(2 + i // 16)))
    h = int.from_bytes(_encrypt_block(keys, bytes(16)), "big")
    sizes = (8 * len(associated_data)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    tag = _ghash(h, _whole_blocks(associated_data) + _whole_blocks(ciphertext) + sizes)
    tag ^= int.from_bytes(stream(1), "big")
    return nonce + ciphertext + tag.to_bytes(16, "big")


def _known_answer():
    # Test case 16 of "The Galois/Counter Mode of Operation (GCM)", McGrew and Viega.
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
    associated_data = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    want = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b")
    assert seal(key, nonce, plaintext, associated_data) == nonce + want


_known_answer()
