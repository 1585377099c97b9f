"""Query images out of a multipart body. They stay in memory: what was uploaded is never written to disk here."""

from __future__ import annotations

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gallery_service.errors import BadQuery, WrongMediaType
from gallery_service.search.query_pictures import MAX_PICTURES

# What a client may call the bytes; what they are is decided by looking at them.
_IMAGE_TYPES = ("image/", "application/octet-stream")
# The page's form has one for each camera ticked.
_MAX_FIELDS = 2000

OPENAPI_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "minItems": 1,
                            "maxItems": MAX_PICTURES,
                            "description": "Crops of one person, or frames with a box each: JPEG, PNG, WebP or BMP, "
                            "10 MiB together.",
                        }
                    },
                }
            }
        },
    }
}


class _InMemoryParser(MultiPartParser):
    # The body limit bounds what can arrive; below it nothing goes to a temporary file.
    spool_max_size = 0


async def uploaded_images(request: Request, most: int = MAX_PICTURES) -> list[bytes]:
    """The bytes of each multipart field `image`, in order, and nothing else in the body.

    Args:
        request: whose body.
        most: how many there may be; one at least.

    Raises:
        WrongMediaType: the body is not multipart/form-data, or the field says that it is no image.
        BadQuery: there is no such field, there are too many, or the body is malformed.
    """
    images, others = await _read(request, most, max_fields=0)
    if not images or others:
        raise BadQuery("send files in fields named 'image' and nothing else; there is none, or something else")
    return images


async def uploaded_form(request: Request) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The images and the other fields of the page's form; a file field that was left empty counts as none.

    Returns:
        The bytes of each field `image`, in order; names and values of the others, in order.

    Raises:
        WrongMediaType, BadQuery: as `uploaded_images`.
    """
    return await _read(request, MAX_PICTURES, _MAX_FIELDS)


async def _read(request: Request, most: int, max_fields: int) -> tuple[list[bytes], list[tuple[str, str]]]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "multipart/form-data":
        raise WrongMediaType("send the crop as multipart/form-data, in a field named 'image'")
    try:
        parser = _InMemoryParser(request.headers, request.stream(), max_files=most, max_fields=max_fields)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "") or "malformed"
        raise BadQuery(
            f"the multipart body cannot be read ({reason}); send 1 to {most} files in fields named 'image'"
        ) from None
    images, others = [], []
    try:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                others.append((name, value))
            elif name != "image":
                raise BadQuery("send files in fields named 'image' and nothing else; there is none, or something else")
            elif value.filename or value.size or not max_fields:
                declared = (value.content_type or "application/octet-stream").lower()
                if not declared.startswith(_IMAGE_TYPES):
                    raise WrongMediaType(
                        f"the field 'image' is of type {declared[:60]!r}; send a JPEG, PNG, WebP or BMP"
                    )
                images.append(await value.read())
        return images, others
    finally:
        await form.close()
