"""Zip archives of class folders."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass

from ffe.errors import DecodeError, SourceError
from ffe.images.archive import Archive, Member, MemberTable, reading
from ffe.images.archive_file import ArchivePlace, open_archive
from ffe.images.decode import too_many_bytes
from ffe.images.records import Finding

_HEADER = struct.Struct("<4s5H3I2H")  # of a member: its mark first, the lengths of its name and of more fields last
_MARK = b"PK\x03\x04"
_ENCRYPTED = 1
_MORE_PACKED = 1024  # bytes by which something may grow when it is packed
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class ZipMember(Member):
    """A picture in a zip, as its directory says."""

    offset: int  # of its own header
    packed: int  # bytes that it takes
    deflated: int  # 1 = it is, 0 = it is stored as it is
    crc32: int

    def content(self, max_bytes: int) -> bytes:
        """Read it, and no more than it is said to have: the content is checked against its checksum."""
        if self.packed > max(max_bytes, self.size) + _MORE_PACKED:
            raise DecodeError("too-large", too_many_bytes(max_bytes))
        with open_archive(self.archive, self.version) as file:
            file.seek(self.offset)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size or not header.startswith(_MARK):
                raise DecodeError("broken", "its archive is damaged where it should begin")
            file.seek(sum(_HEADER.unpack(header)[-2:]), 1)
            data = file.read(self.packed)
        if self.deflated:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.size + 1)
            except zlib.error as error:
                raise DecodeError("broken", "its content is damaged in the archive") from error
        if len(data) != self.size or zlib.crc32(data) != self.crc32:
            raise DecodeError("broken", "its content is damaged in the archive")
        return data

    def reading_order(self) -> tuple[str, int]:
        """Return where it lies."""
        return self.archive, self.offset


def read_zip(path: ArchivePlace) -> Archive:
    """List a zip without unpacking anything; a SourceError says why it cannot be."""
    found, encrypted = Archive(path, MemberTable(ZipMember, "QQBI")), list[str]()
    with reading(path):
        try:
            with open_archive(path, found.version) as file, zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            text = f"'{path}' is no zip, or its end, where its directory stands, is damaged or cut off; fetch it again."
            raise SourceError(text) from error
    for one in members:
        if (name := found.take_name(one.filename)) is None:
            continue
        mode = one.external_attr >> 16
        if one.is_dir():
            found.folders.append(name)
        elif stat.S_ISLNK(mode):
            found.left_out.append((name, "a link, which is not followed"))
        elif one.flag_bits & _ENCRYPTED:
            encrypted.append(name)
        elif one.compress_type not in _METHODS:
            found.left_out.append((name, "packed in a way that ffe does not read; zip it again with 'zip -r'"))
        else:
            place = one.file_size, one.header_offset, one.compress_size
            if min(place) < 0 or max(place) >= 1 << 64:
                found.left_out.append((name, "its place in the archive is damaged"))
            else:
                found.members.append(name, *place, one.compress_type == zipfile.ZIP_DEFLATED, one.CRC)
    found.refuse_doubles()
    if encrypted:
        text = f"'{path}' is encrypted ('{encrypted[0]}'); unpack it with its password, and give the folder."
        found.findings.append(Finding("refused", text))
    return found
