"""Descriptors as plain data, and what makes one incompatible with another. Pure.

A *shape* maps ``Message.field`` to number, type and label, and ``Service.Method`` to its request and response.
Additions are compatible; whatever was there must still be there, the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

Shape = Mapping[str, str]


def shape_of(file: FileDescriptorProto) -> dict[str, str]:
    """Return the shape of a file, sorted by name."""
    lines = dict(_methods(file))
    for message in file.message_type:
        lines |= dict(_fields(message, f"{file.package}.{message.name}"))
    return dict(sorted(lines.items()))


def incompatibilities(golden: Shape, current: Shape) -> list[str]:
    """Return what was removed, renumbered, retyped or renamed, a sentence each."""
    return [
        f"{name}: was {was}, is {current.get(name, 'gone')}"
        for name, was in golden.items()
        if current.get(name) != was
    ]


def _methods(file: FileDescriptorProto) -> Iterable[tuple[str, str]]:
    for service in file.service:
        for method in service.method:
            request = ("stream " if method.client_streaming else "") + method.input_type
            response = ("stream " if method.server_streaming else "") + method.output_type
            yield f"{file.package}.{service.name}/{method.name}", f"{request} -> {response}"


def _fields(message: DescriptorProto, path: str) -> Iterable[tuple[str, str]]:
    for field in message.field:
        kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
        oneof = f" in {message.oneof_decl[field.oneof_index].name}" if field.HasField("oneof_index") else ""
        yield f"{path}.{field.name}", f"{field.number} {label} {field.type_name or kind}{oneof}"
    for enum in message.enum_type:
        for value in enum.value:
            yield f"{path}.{enum.name}.{value.name}", str(value.number)
    for nested in message.nested_type:
        yield from _fields(nested, f"{path}.{nested.name}")


def extension_table(file: FileDescriptorProto) -> str:
    """Return every field of ours in an existing message as a Markdown table."""
    rows = ["| message | field | number | type |", "|---|---|---|---|"]
    for message in file.message_type:
        for field in message.field:
            if field.number >= FIRST_OF_OURS:
                scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
                kind = field.type_name.rpartition(".")[2] or scalar
                rows.append(f"| {message.name} | {field.name} | {field.number} | {kind} |")
    return "\n".join(rows)


FIRST_OF_OURS = 100
