"""Model files as docs/format.md has them, without fastnn's own code, for tests that alter them."""

import hashlib
import json

DIGITS = slice(8 + len('{"__metadata__":{"sha256":"'), 8 + len('{"__metadata__":{"sha256":"') + 64)


def split(content):
    """(header as it is in the file, data)"""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def joined(header, data):
    """The file of a header, as text or as a dict, and data."""
    if isinstance(header, dict):
        header = json.dumps(header, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header + data


def signed(content):
    """The file with the checksum that belongs to it, where its header begins with one."""
    digest = hashlib.sha256(content[: DIGITS.start] + content[DIGITS.stop :]).hexdigest()
    return content[: DIGITS.start] + digest.encode() + content[DIGITS.stop :]


def with_checksum(content):
    """A file that safetensors has written, with a checksum."""
    header, data = split(content)
    header = json.loads(header)
    metadata = {"sha256": "0" * 64} | header.pop("__metadata__", {})
    return signed(joined({"__metadata__": metadata} | header, data))


def record_of(content):
    return json.loads(json.loads(split(content)[0])["__metadata__"]["fastnn-mlp"])
