"""Rows of the XML files of ASDiv and NIILC; a document type, and with it every entity, is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from latent_gemma.data.rows import Row
from latent_gemma.data.values import once_each
from latent_gemma.errors import DataError

#: The element that is one row: ASDiv's and NIILC's.
_ROW_TAGS = ("Problem", "question")


def _value(element: Element) -> Any:
    """The text of an element, or the texts of its children."""
    children = list(element)
    return [child.text or "" for child in children] if children else element.text or ""


def _parse(path: Path) -> list[tuple[int, Element]]:
    """Rows with the lines they begin on."""
    parser, builder = expat.ParserCreate(), TreeBuilder()
    rows: list[tuple[int, Element]] = []

    def refuse(*_: Any) -> None:
        # Entities can be declared nowhere else, and nested ones grow without bound.
        raise DataError(f"{path}, line {parser.CurrentLineNumber}: a document type is not read", "take <!DOCTYPE> out")

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = builder.start(tag, attributes)
        if tag in _ROW_TAGS:
            rows.append((parser.CurrentLineNumber, element))

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    with path.open("rb") as file:
        parser.ParseFile(file)
    builder.close()
    return rows


def xml_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a published XML file.

    Args:
        path: the file; each `<Problem>` (ASDiv) or `<question>` (NIILC) in it is a row.

    Yields:
        Where a row stands, and its child elements: name -> text, or list of the texts of their own children.

    Raises:
        DataError: if it is no XML, has a document type, or holds no such element.
    """
    if not path.read_bytes().strip(b"\xef\xbb\xbf \t\r\n"):
        return
    try:
        rows = _parse(path)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last for encodings of several bytes
        raise DataError(f"{path}: expected XML, {error}") from error
    if not rows:
        raise DataError(f"{path}: expected <Problem> or <question> elements, found none")
    for line, element in rows:
        where = f"{path}, line {line}"
        try:
            yield where, once_each((child.tag, _value(child)) for child in element)
        except ValueError as error:
            yield where, DataError(f"{where}: {error}")
