"""What clients packed to send less, unpacked up to a limit: a kilobyte can hold a megabyte of zeros."""

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class TooLargeError(Exception):
    """It holds more than it may."""


class DamagedError(Exception):
    """It is not packed, or not all of it is there."""


def _unpack(content: bytes, most: int, form: int) -> bytes:
    unpacker = zlib.decompressobj(form)
    try:
        found = unpacker.decompress(content, most + 1)  # 0 for any number
    except zlib.error as error:
        raise DamagedError(str(error)) from error
    if 0 <= most < len(found):
        raise TooLargeError
    if not unpacker.eof:
        raise DamagedError("it ends too early")
    if unpacker.unused_data:
        raise DamagedError("something follows its end")
    return found


def unpack_gzip(content: bytes, most: int) -> bytes:
    """What gzip made `content` of.

    Raises:
      TooLargeError: it is more than `most` bytes.
      DamagedError: it is no gzip, or not all of it.
    """
    return _unpack(content, most, _GZIP)


def may_be_packed(message: bytes) -> bool:
    """Whether a protobuf message looks as if gRPC had packed it, by gzip or by zlib.

    No message begins as gzip does: its first byte would be a field of no type. One could begin as zlib does, with a
    field 15, which none of the services' messages has.
    """
    if message[:1] == b"x":
        return len(message) > 1 and (0x7800 | message[1]) % 31 == 0
    return message[:2] == _MAGIC


def unpack_message(message: bytes, most: int) -> bytes:
    """What gRPC packed, or `message` itself where it is not packed after all.

    Args:
      message: for which `may_be_packed` holds.
      most: bytes it may hold; -1 for any number.

    Raises:
      TooLargeError: it holds more.
    """
    try:
        return _unpack(message, most, _GZIP_OR_ZLIB)
    except DamagedError:
        return message
