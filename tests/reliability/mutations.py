"""Files that are damaged or hostile: every mutation of a whole one, from a random generator."""

from __future__ import annotations

import json

from model_files import joined, signed, split

DEEP = 100_000
# Values for any place of the JSON; text in angle brackets is put in as it is.
HOSTILE = (
    *(-1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)),
    *(
        0.0,
        1.0,
        1e308,
        float("nan"),
        float("inf"),
        None,
        True,
        False,
        "",
        "x",
        "F64",
        "F16",
        "BF16",
    ),
    *("run", "float64", "relu", "softmax", "x" * 50_000, "\0", "é", "\ud800", "__metadata__"),
    *([], {}, [[]], [0], [-1], [2**32, 2**32], [2**61, 8], [2**63, 2], [0, 2**62], [1] * 50_000),
    *(["relu"] * 1000, {"a": 1}, "<" + "[" * DEEP + "]" * DEEP + ">", "<" + '{"a":' * DEEP + ">"),
    *("<" + "1" * 5000 + ">", "<1e999>", "<-0>", "<nul>", "<" + "1" * 4299 + ">"),
)


def mutated(random, whole, other, sign):
    """The bytes of a file made of `whole`, and for some mutations of `other`, two whole files.

    sign: it gets the checksum that belongs to it, so that only the other rules can refuse it.
    """
    content = whole
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(OF_BYTES + OF_HEADER * 2)(random, content, other)
    return signed(content) if sign else content


# ---- of bytes ----


def flip_a_bit(random, content, other):
    if not content:
        return content
    place = random.randrange(len(content))
    return (
        content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]
    )


def flip_bits(random, content, other):
    for _ in range(random.randrange(2, 50)):
        content = flip_a_bit(random, content, other)
    return content


def overwrite(random, content, other):
    place, n = random.randrange(len(content) + 1), random.choice((1, 8, 64, 512))
    filling = random.choice((bytes(n), b"\xff" * n, random.randbytes(n), b" " * n))
    return content[:place] + filling + content[place + n :]


def truncate(random, content, other):
    return content[: random.randrange(len(content) + 1)]


def truncate_at_an_edge(random, content, other):
    header, _ = split(content)
    edge = random.choice((0, 7, 8, 9, 8 + len(header), len(content))) + random.choice((-1, 0, 1))
    return content[: max(edge, 0)]


def extend(random, content, other):
    n = random.choice((1, 4, 8, 4096))
    return content + random.choice((bytes(n), random.randbytes(n), content, other, b"\n"))


def insert(random, content, other):
    place = random.randrange(len(content) + 1)
    return content[:place] + random.randbytes(random.randrange(1, 9)) + content[place:]


def remove(random, content, other):
    place = random.randrange(len(content) + 1)
    return content[:place] + content[place + random.randrange(1, 100) :]


def swap_parts(random, content, other):
    a, b, c, d = sorted(random.randrange(len(content) + 1) for _ in range(4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def swap_sections(random, content, other):
    header, data = split(content)
    return random.choice((content[:8] + data + header, joined(data, header), header + content[:8]))


def splice(random, content, other):
    place = random.randrange(len(content) + 1)
    return content[:place] + other[place:]


def header_of_one_data_of_the_other(random, content, other):
    return joined(split(content)[0], split(other)[1])


def other_length(random, content, other):
    right = int.from_bytes(content[:8], "little")
    lengths = (0, 1, 2, 7, 2**23, 2**23 + 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
    near = (right - 8, right - 1, right + 1, right + 8, right ^ 1 << random.randrange(64))
    return (random.choice(lengths + near) % 2**64).to_bytes(8, "little") + content[8:]


def not_utf8(random, content, other):
    header, data = split(content)
    place = random.randrange(len(header) + 1)
    wrong = random.choice(
        (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xef\xbb\xbf")
    )
    return joined(header[:place] + wrong + header[place:], data)


def other_encoding(random, content, other):
    header, data = split(content)
    encoding = random.choice(("utf-16", "utf-16-le", "utf-32-be", "utf-7"))
    return joined(header.decode("latin-1").encode(encoding), data)


# ---- of the header ----


def other_value(random, content, other):
    def change(parent, key):
        parent[key] = random.choice(HOSTILE)

    return of_json(random, content, change)


def no_value(random, content, other):
    return of_json(random, content, lambda parent, key: parent.pop(key))


def one_more(random, content, other):
    def change(parent, key):
        if isinstance(parent, list):
            parent.append(random.choice(HOSTILE))
        else:
            parent[random.choice(("x", "layer3.weight", "run.x", "run.callback0.y"))] = parent[key]

    return of_json(random, content, change)


def a_name_twice(random, content, other):
    def change(parent, key):
        if isinstance(parent, dict):
            parent[key] = [random.choice((parent[key], random.choice(HOSTILE))), parent.pop(key)]
            parent[f"<twice>{key}"] = parent.pop(key)

    return of_json(random, content, change)


def other_name(random, content, other):
    def change(parent, key):
        if isinstance(parent, dict):
            parent[random.choice((*parent, "", key + "x", key.upper(), key[:-1]))] = parent.pop(key)

    return of_json(random, content, change)


def near_number(random, content, other):
    def change(parent, key):
        if isinstance(parent[key], (int, float)):
            parent[key] += random.choice((-1, 1, 0.5, 2**32, parent[key]))

    return of_json(random, content, change)


def swapped_values(random, content, other):
    def change(parent, key):
        with_that = random.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        parent[key], parent[with_that] = parent[with_that], parent[key]

    return of_json(random, content, change)


def of_json(random, content, change):
    """change(parent, key) at a random place of the header, or of the record in it."""
    header, data = split(content)
    try:
        header = json.loads(header)
        record = json.loads(header["__metadata__"]["fastnn-mlp"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return content  # damaged already
    if not isinstance(record, dict):
        return content
    in_record = random.random() < 0.5
    places = list(places_of(record if in_record else header))
    if places:
        change(*random.choice(places))
    if in_record:
        header["__metadata__"]["fastnn-mlp"] = as_text(record)
    text = as_text(header).encode("utf-8", "surrogatepass")
    return joined(text + b" " * (-len(text) % 8), data)


def places_of(value):
    """(parent, key) of all that is in a JSON value, with what is in that."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places_of(value[key])


def as_text(value):
    """JSON, with <text> as it is and {"<twice>name": [a, b]} as name: a, name: b."""
    if isinstance(value, dict):
        pairs = []
        for name, member in value.items():
            if name.startswith("<twice>"):
                pairs += [(name.removeprefix("<twice>"), one) for one in member]
            else:
                pairs.append((name, member))
        return "{" + ",".join(f"{json.dumps(name)}:{as_text(one)}" for name, one in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_text, value)) + "]"
    if isinstance(value, str) and value.startswith("<") and value.endswith(">"):
        return value[1:-1]
    return json.dumps(value)


OF_BYTES = (
    flip_a_bit,
    flip_bits,
    overwrite,
    truncate,
    truncate_at_an_edge,
    extend,
    insert,
    remove,
    swap_parts,
    swap_sections,
    splice,
    header_of_one_data_of_the_other,
    other_length,
    not_utf8,
    other_encoding,
)
OF_HEADER = (
    other_value,
    no_value,
    one_more,
    a_name_twice,
    other_name,
    near_number,
    swapped_values,
)


# ---- whole files made to take memory or time ----


def bombs():
    """Headers of the greatest length, each of many small things, and of few deep ones."""
    limit = 8 * 2**20

    def filled(begin, part, end):
        return begin + part * ((limit - len(begin) - len(end)) // len(part)) + end

    yield joined(filled(b'{"a":[', b"[],", b"0]}"), b"")
    yield joined(filled(b'{"a":[', b'{"":0},', b"0]}"), b"")
    yield joined(filled(b'{"a":[', b'"",', b"0]}"), b"")
    yield joined(filled(b"{", b'"":{},', b'"":0}'), b"")
    yield joined(filled(b'{"a":', b"[", b""), b"")
    yield joined(b'{"a":"' + "𐍈".encode() * 2_000_000 + b'"}', b"")
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    entries = b",".join(entry % k for k in range(130_000))
    yield joined(b"{" + entries + b"}", b"")
    for n, size in ((2_000_000, 1), (300_000, 2**62 - 1), (500_000, 1)):
        record = {
            "format_version": 3,
            "architecture": {
                "layer_sizes": [size] * n,
                "activations": ["elu"] * (n - 2) if n == 500_000 else [],
                "output": "softmax",
                "dtype": "float32",
            },
            "training": {"seed": 0, "epochs_trained": 0},
            "written_by": "",
        }
        text = json.dumps(record, separators=(",", ":"))
        yield signed(joined({"__metadata__": {"sha256": "0" * 64, "fastnn-mlp": text}}, b""))
